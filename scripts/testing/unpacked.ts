// SPDX-License-Identifier: Apache-2.0
/** Tools whose packages scripts/deps.sh only unpacks, into build/NAME, or that are installed. */
import { existsSync } from 'node:fs';
import path from 'node:path';

const build = path.join(import.meta.dirname, '../../build');

/** The folder below which a package's files are. @param program path from the root; null: it is nowhere */
export function packageRoot(name: string, program: string): string | null {
  return [path.join(build, name), '/'].find((root) => existsSync(path.join(root, program))) ?? null;
}

/** Path of a program of the package; null: it is nowhere. @param program path from the root */
export function findProgram(name: string, program: string): string | null {
  const root = packageRoot(name, program);
  return root === null ? null : path.join(root, program);
}
