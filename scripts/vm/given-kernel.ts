// SPDX-License-Identifier: Apache-2.0
/**
 * A kernel that somebody has already, by a path: a Debian package (`.deb`), a folder that one was unpacked to, or an
 * image (vmlinuz, vmlinux) whose modules are beside it or installed.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { releaseOfImage } from './vmlinux.ts';

export interface KernelFiles {
  /** As `uname -r` prints it. */
  readonly release: string;
  /** bzImage or ELF. */
  readonly image: string;
  /** lib/modules/<release> */
  readonly modules: string;
}

/** Since the merge of /usr a package may have its modules there. */
const MODULE_FOLDERS = ['lib/modules', 'usr/lib/modules'];

/** Of an unpacked package. Throws when it holds no kernel, or more than one. */
export function kernelInTree(folder: string): KernelFiles {
  const found = MODULE_FOLDERS.map((name) => path.join(folder, name)).find(existsSync);
  const releases = found === undefined ? [] : readdirSync(found);
  const [release] = releases;
  if (found === undefined || release === undefined) throw new Error(`${folder} has no modules of a kernel`);
  if (releases.length > 1) throw new Error(`${folder} has several kernels: ${releases.join(', ')}; name an image`);
  return { release, image: path.join(folder, 'boot', `vmlinuz-${release}`), modules: path.join(found, release) };
}

function kernelOfImage(image: string): KernelFiles {
  const release = releaseOfImage(readFileSync(image));
  const above = path.join(path.dirname(image), '..');
  const modules = [...MODULE_FOLDERS.map((name) => path.join(above, name)), '/lib/modules']
    .map((folder) => path.join(folder, release))
    .find((folder) => existsSync(path.join(folder, 'kernel')));
  if (modules === undefined)
    throw new Error(`the modules of Linux ${release} are neither beside ${image} nor installed`);
  return { release, image, modules };
}

/** @param unpack gives the folder that a package was unpacked to */
export function givenKernel(given: string, unpack: (packageFile: string) => string): KernelFiles {
  const stat = statSync(given, { throwIfNoEntry: false });
  if (stat === undefined) throw new Error(`KERNEL: there is no ${given}`);
  const file = realpathSync(given);
  if (stat.isDirectory()) return kernelInTree(file);
  return file.endsWith('.deb') ? kernelInTree(unpack(file)) : kernelOfImage(file);
}

/** Another file at the same path is another kernel. */
export function keyOf(given: string): string {
  const stat = statSync(given, { throwIfNoEntry: false });
  return createHash('sha256')
    .update(`${path.resolve(given)} ${stat?.mtimeMs}`)
    .digest('hex')
    .slice(0, 16);
}
