// SPDX-License-Identifier: Apache-2.0
/** Writes the reference pages made from the code; with `--check` fails if one differs from what is committed. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { errorTable } from '../src/errors.ts';
import { errorsPage } from './docs/errors-page.ts';

const root = path.join(import.meta.dirname, '..');
const generated: Readonly<Record<string, string>> = { 'docs/errors.md': errorsPage(errorTable) };

const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
for (const [page, text] of Object.entries(generated)) {
  const file = path.join(root, page);
  const isCurrent = existsSync(file) && readFileSync(file, 'utf8') === text;
  if (!values.check) writeFileSync(file, text);
  else if (!isCurrent) {
    console.error(`${page} differs from what the code says: run make generate`);
    process.exitCode = 1;
  }
}
if (values.check && process.exitCode === undefined)
  console.log(`docs: ${Object.keys(generated).join(', ')} up to date`);
