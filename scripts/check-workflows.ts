// SPDX-License-Identifier: Apache-2.0
/** Checks .github/workflows. A process of its own: two linters in WebAssembly from Go do not get on in one. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { workflowProblems } from './deploy/workflow-rules.ts';

const root = path.join(import.meta.dirname, '..');
const folder = path.join(root, '.github/workflows');
const makefile = readFileSync(path.join(root, 'Makefile'), 'utf8');
let failed = false;
for (const file of readdirSync(folder).sort()) {
  for (const problem of await workflowProblems(readFileSync(path.join(folder, file), 'utf8'), file, makefile)) {
    console.error(`.github/workflows/${file}: ${problem}`);
    failed = true;
  }
}
if (failed) process.exitCode = 1;
else console.log('workflows: GitHub Actions are in order');
