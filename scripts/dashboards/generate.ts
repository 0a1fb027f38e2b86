// SPDX-License-Identifier: Apache-2.0
/** Writes dashboards/*.json; with `--check` fails if one differs from what is committed. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { dashboards } from './index.ts';

const root = path.join(import.meta.dirname, '../..');
const folder = path.join(root, 'dashboards');

/** In the project's format, so that the files pass its own checks. */
function formatted(name: string, value: unknown): string {
  const args = ['format', `--stdin-file-path=dashboards/${name}`];
  const { status, stdout, stderr, error } = spawnSync(path.join(root, 'node_modules/.bin/biome'), args, {
    cwd: root,
    input: JSON.stringify(value, null, 2),
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`biome format: ${error?.message ?? stderr}`);
  return stdout;
}

const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
mkdirSync(folder, { recursive: true });
const made = dashboards();
for (const [name, dashboard] of made) {
  const file = path.join(folder, name);
  const text = formatted(name, dashboard);
  if (!values.check) writeFileSync(file, text);
  else if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
    console.error(`dashboards/${name} differs from what scripts/dashboards makes: run make generate`);
    process.exitCode = 1;
  }
}
for (const name of readdirSync(folder).filter((file) => file.endsWith('.json') && !made.has(file))) {
  if (!values.check) rmSync(path.join(folder, name));
  else {
    console.error(`dashboards/${name} is made by nothing: run make generate`);
    process.exitCode = 1;
  }
}
if (values.check && process.exitCode === undefined)
  console.log(`dashboards: ${[...made.keys()].join(', ')} up to date`);
