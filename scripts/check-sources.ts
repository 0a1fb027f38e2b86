// SPDX-License-Identifier: Apache-2.0
/** Checks licence lines, file sizes and that each command shown in the documentation says how it is tested. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Violation } from './checking/import-rules.ts';
import { checkSource, isSource } from './checking/source-rules.ts';
import { documentationFiles, unmarkedBlocks } from './docs/blocks.ts';

const root = path.join(import.meta.dirname, '..');

/** What git knows, or would know at the next commit. */
function projectFiles(): string[] {
  const git = spawnSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
  });
  if (git.status !== 0) throw new Error(`git ls-files: ${git.error?.message ?? git.stderr}`);
  return [...new Set(git.stdout.split('\n'))].filter((file) => file !== '' && existsSync(path.join(root, file))).sort();
}

const files = projectFiles();
const sources = files.filter(isSource);
const violations: Violation[] = sources.flatMap((file) =>
  checkSource(file, readFileSync(path.join(root, file), 'utf8')),
);
for (const file of documentationFiles(files)) {
  for (const block of unmarkedBlocks(readFileSync(path.join(root, file), 'utf8'))) {
    violations.push({
      file,
      line: block.line,
      message: 'a sh block must be marked test, test=rig, test=make or norun',
    });
  }
}

for (const { file, line, message } of violations) console.error(`${file}:${line}: ${message}`);
if (violations.length > 0) process.exitCode = 1;
else console.log(`sources: ${sources.length} files name their licence and keep to a readable size`);
