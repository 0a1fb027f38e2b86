// SPDX-License-Identifier: Apache-2.0
/** The dataplane's object by each compiler that is installed: what one compiler makes of a loop another may not. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { findCommand } from '../../../scripts/vm/initramfs.ts';
import { programNames } from '../../../src/app/dataplane.ts';
import { buildDataplane, withNop } from '../../support/builds.ts';

const root = path.join(import.meta.dirname, '../../..');

export const compilers = ['clang-14', 'clang-19'] as const;

/** Path in the checkout. */
export function objectOf(compiler: string): string {
  return `build/check/${compiler}/bpf/vnic.bpf.o`;
}

/** Compiles if need be. Returns the object's absolute path, or null if the compiler is not installed. */
export function compileObject(compiler: string): string | null {
  if (findCommand(compiler) === null) return null;
  const object = objectOf(compiler);
  const args = ['--no-print-directory', object, `CLANG=${compiler}`, `BUILD=build/check/${compiler}`];
  const { MAKEFLAGS: _flags, MAKELEVEL: _level, ...env } = process.env;
  const result = spawnSync('make', args, { cwd: root, encoding: 'utf8', env });
  if (result.status !== 0) throw new Error(`make ${args.join(' ')} failed:\n${result.stderr}`);
  return path.join(root, object);
}

const otherBuild = path.join(root, 'build/vm');
const OTHER = 'other';

/** Where a build is whose programs are all others than those of this tree. */
export const upgradedObject = path.join(otherBuild, OTHER, 'build/bpf/vnic.bpf.o');

export function buildUpgrade(): void {
  rmSync(otherBuild, { recursive: true, force: true });
  buildDataplane(otherBuild, OTHER, { edits: withNop(...programNames) });
}
