// SPDX-License-Identifier: Apache-2.0
/** Checks the module map of src/: `node scripts/check-imports.ts`. The rules are in checking/import-rules.ts. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { checkFile } from './checking/import-rules.ts';

const root = path.join(import.meta.dirname, '..');
const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as Record<
  string,
  Record<string, string> | undefined
>;
const packages = new Set(
  [manifest['dependencies'], manifest['optionalDependencies']].flatMap((group) => Object.keys(group ?? {})),
);

const files = readdirSync(path.join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .sort()
  .map((name) => `src/${name}`);
const violations = files.flatMap((file) => checkFile(file, readFileSync(path.join(root, file), 'utf8'), packages));

for (const { file, line, message } of violations) console.error(`${file}:${line}: ${message}`);
if (violations.length > 0) process.exitCode = 1;
else console.log(`imports: ${files.length} files of src/ follow the module map`);
