// SPDX-License-Identifier: Apache-2.0
/** Other builds of the dataplane's programs: by another compiler, or from an edited copy of the sources and the Makefile. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { ProgramName } from '../../src/app/dataplane.ts';

const root = path.join(import.meta.dirname, '../..');

/** File to what becomes of its text. */
export type Edits = Readonly<Record<string, (text: string) => string>>;

/** Compiles the programs in `folder`/`name`; the object's path. Throws with the compiler's messages. */
export function buildDataplane(
  folder: string,
  name: string,
  options: { compiler?: string; edits?: Edits } = {},
): string {
  const copy = path.join(folder, name);
  for (const source of ['bpf', 'Makefile'])
    cpSync(path.join(root, source), path.join(copy, source), { recursive: true });
  for (const [file, edit] of Object.entries(options.edits ?? {})) {
    const before = readFileSync(path.join(copy, file), 'utf8');
    const after = edit(before);
    assert.notEqual(after, before, `the edit of ${file} found nothing to change`);
    writeFileSync(path.join(copy, file), after);
  }
  const object = 'build/bpf/vnic.bpf.o';
  const compiler = options.compiler === undefined ? [] : [`CLANG=${options.compiler}`];
  execFileSync('make', ['--no-print-directory', '-C', copy, ...compiler, object], {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  });
  return path.join(copy, object);
}

/** Gives programs one more instruction, which does nothing. */
export function withNop(...programs: readonly ProgramName[]): Edits {
  return {
    'bpf/vnic.bpf.c': (text) =>
      programs.reduce((edited, program) => {
        const head = new RegExp(`(\nint ${program}\\([^\n]*\\)\n\\{\n)`);
        assert.match(edited, head);
        return edited.replace(head, '$1\tasm volatile("r0 = 0" ::: "r0");\n');
      }, text),
  };
}
