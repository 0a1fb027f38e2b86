// SPDX-License-Identifier: Apache-2.0
/**
 * Where the files of the product are, whether it runs from its sources (src/) or bundled (build/dist/, made by
 * scripts/bundle.ts), in a checkout or installed.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';

/** Whether this is a bundle: Node would run sources as TypeScript. */
const isBundled = path.extname(import.meta.filename) === '.js';

function findRoot(): string {
  let folder = import.meta.dirname;
  while (!existsSync(path.join(folder, 'package.json'))) {
    const parent = path.dirname(folder);
    if (parent === folder) throw new Error(`there is no package.json above ${import.meta.dirname}`);
    folder = parent;
  }
  return folder;
}

const root = findRoot();

/** A file of the product by its path from the root of the checkout. */
export function projectFile(file: string): string {
  return path.join(root, file);
}

/** A program of the product, by its path below src/ without `.ts`: its source, or what it was bundled to. */
export function programFile(name: string): string {
  return projectFile(isBundled ? `build/dist/${name}.js` : `src/${name}.ts`);
}
