// SPDX-License-Identifier: Apache-2.0
/**
 * Prints the folders below node_modules that an installed vnicctl needs, one a line: what package-lock.json has that is
 * neither for development only nor for another system, and is installed. ffi-napi is left out: koffi serves alone there.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

interface LockedPackage {
  dev?: boolean;
  devOptional?: boolean;
  optional?: boolean;
  os?: string[];
  cpu?: string[];
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

const root = path.join(import.meta.dirname, '../..');
const { packages } = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as {
  packages: Record<string, LockedPackage>;
};

/** Brought as files of their own (Node), or not shipped. */
const apart = /^(?:node-linux-|ffi-napi$|ref-napi$)/;

/** Where Node finds `name` from inside the package at `from`. */
function resolve(from: string, name: string): string | undefined {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    const candidate = `${folder === '' ? '' : `${folder}/`}node_modules/${name}`;
    if (candidate in packages) return candidate;
    if (folder === '') return undefined;
  }
}

const needed = new Set<string>();
function need(from: string): void {
  const { dependencies = {}, optionalDependencies = {} } = packages[from] ?? {};
  for (const name of [...Object.keys(dependencies), ...Object.keys(optionalDependencies)]) {
    const found = resolve(from, name);
    if (found === undefined || needed.has(found) || (from === '' && apart.test(name))) continue;
    if (!existsSync(path.join(root, found))) {
      if (packages[found]?.optional === true) continue;
      throw new Error(`${found} is not installed: run make deps`);
    }
    needed.add(found);
    need(found);
  }
}

need('');
for (const folder of [...needed].sort()) console.log(folder);
