// SPDX-License-Identifier: Apache-2.0
/** Compiles the BPF programs of tests, for runs without `make`; with the flags of the Makefile. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';

const root = path.join(import.meta.dirname, '../..');
const compilers = ['clang-19', 'clang-14', 'clang'];
const bpfArchitectures: Readonly<Record<string, string>> = { x64: 'x86', arm64: 'arm64' };
const hostTriplets: Readonly<Record<string, string>> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

const compiled = new Map<string, string>();

function isMissingProgram(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

/**
 * Compiles `test/bpf/NAME.bpf.c`, once in a process, with the first of clang-19, clang-14 and clang that is installed.
 * Returns the object's path; throws with the compiler's messages when it does not compile or there is no compiler.
 */
export function compileTestProgram(name: string): string {
  const earlier = compiled.get(name);
  if (earlier !== undefined) return earlier;
  const folder = path.join(root, 'build/test');
  const object = path.join(folder, `${name}.bpf.o`);
  // Under a name of its own first: another run may be reading the object.
  const unfinished = path.join(folder, `${name}.${process.pid}.tmp.o`);
  mkdirSync(folder, { recursive: true });
  const flags = [
    ...'-target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror'.split(' '),
    `-D__TARGET_ARCH_${bpfArchitectures[process.arch] ?? process.arch}`,
    `-I${path.join(root, 'bpf')}`,
    '-idirafter',
    `/usr/include/${hostTriplets[process.arch] ?? process.arch}`,
  ];
  try {
    runFirst([...flags, '-c', path.join(root, 'test/bpf', `${name}.bpf.c`), '-o', unfinished]);
    renameSync(unfinished, object);
  } finally {
    rmSync(unfinished, { force: true });
  }
  compiled.set(name, object);
  return object;
}

function runFirst(args: readonly string[]): void {
  for (const compiler of compilers) {
    try {
      execFileSync(compiler, args, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
      return;
    } catch (error) {
      if (!isMissingProgram(error)) throw error;
    }
  }
  throw new Error(`none of ${compilers.join(', ')} is installed`);
}
