// SPDX-License-Identifier: Apache-2.0
/**
 * The guest's kernel: the distribution's own package, downloaded once, unpacked into a cache and never installed.
 *
 *     ${XDG_CACHE_HOME:-~/.cache}/vnicctl/vm/<release>/vmlinux
 *     ${XDG_CACHE_HOME:-~/.cache}/vnicctl/vm/<release>/lib/modules/<release>/
 *
 * Environment: VNIC_VM_KERNEL names another kernel package, such as linux-image-6.1.0-50-amd64; KERNEL is the path of
 * another kernel (given-kernel.ts).
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { givenKernel, type KernelFiles, kernelInTree, keyOf } from './given-kernel.ts';
import { readVmlinux } from './vmlinux.ts';

export interface GuestKernel {
  /** As `uname -r` prints it. */
  readonly release: string;
  /** ELF file, booted by the PVH protocol: QEMU starts it without the real-mode code and decompressor of a bzImage. */
  readonly vmlinux: string;
  /** What the guest has as /lib/modules. */
  readonly modules: string;
}

const META_PACKAGE = 'linux-image-amd64';

/** Of 350 MB of modules, those that a guest with one virtio NIC can ask for. */
const KEPT_MODULES = ['net', 'lib', 'crypto', 'fs/9p', 'fs/netfs', 'fs/fscache', 'drivers/virtio', 'drivers/net'];

function cacheFolder(): string {
  const { XDG_CACHE_HOME: cache } = process.env;
  return path.join(cache === undefined || cache === '' ? path.join(homedir(), '.cache') : cache, 'vnicctl', 'vm');
}

/** Runs a command to its end. Throws with the last line it said. */
function run(command: string, args: readonly string[], cwd?: string): string {
  const env = { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' };
  const result = spawnSync(command, args, { encoding: 'utf8', env, ...(cwd === undefined ? {} : { cwd }) });
  if (result.error !== undefined) throw new Error(`${command} cannot be run: ${result.error.message}`);
  if (result.status === 0) return result.stdout;
  throw new Error(result.stderr.trim().split('\n').at(-1) || `${command} ended with ${result.status ?? result.signal}`);
}

function kernelIn(folder: string, release: string): GuestKernel {
  return {
    release,
    vmlinux: path.join(folder, release, 'vmlinux'),
    modules: path.join(folder, release, 'lib/modules'),
  };
}

/** `linux-image-6.1.0-56-amd64` has the release 6.1.0-56-amd64. */
function releaseOf(packageName: string): string {
  return packageName.replace(/^linux-image-/, '');
}

/** What is in the cache: the kernel asked for, else the newest. */
function cachedKernel(folder: string): GuestKernel | null {
  const { VNIC_VM_KERNEL: asked } = process.env;
  const releases = existsSync(folder)
    ? readdirSync(folder).filter((name) => /^\d/.test(name) && existsSync(path.join(folder, name, 'vmlinux')))
    : [];
  const newest = releases.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1);
  const release = asked ? releases.find((name) => name === releaseOf(asked)) : newest;
  return release === undefined ? null : kernelIn(folder, release);
}

/** The package that the distribution's kernel meta package stands for. */
function kernelPackage(): string {
  const { VNIC_VM_KERNEL: asked } = process.env;
  if (asked) return asked;
  const depends = /^Depends: (linux-image-[^ ,]+)/m.exec(run('apt-cache', ['show', META_PACKAGE]))?.[1];
  if (depends === undefined) throw new Error(`the package lists have no ${META_PACKAGE}`);
  return depends;
}

/** The package lists may name a version that the mirror has replaced since: they are fetched anew once. */
function download(folder: string): string {
  const attempt = () => run('apt-get', ['download', '-q', kernelPackage()], folder);
  try {
    attempt();
  } catch {
    run('apt-get', ['update', '-q']);
    attempt();
  }
  const file = readdirSync(folder).find((name) => name.endsWith('.deb'));
  if (file === undefined) throw new Error('apt-get downloaded nothing');
  return path.join(folder, file);
}

function copyGuestModules(from: string, to: string): void {
  const all = path.join(from, 'kernel');
  for (const folder of KEPT_MODULES.filter((name) => existsSync(path.join(all, name)))) {
    cpSync(path.join(all, folder), path.join(to, 'kernel', folder), { recursive: true });
  }
  for (const name of readdirSync(from).filter((entry) => entry.startsWith('modules.'))) {
    cpSync(path.join(from, name), path.join(to, name));
  }
  const drivers = path.join(to, 'kernel/drivers/net');
  for (const entry of readdirSync(drivers, { withFileTypes: true })) {
    if (entry.isDirectory()) rmSync(path.join(drivers, entry.name), { recursive: true });
  }
}

/** By ending. The guest's busybox need not know how to unpack. */
const decompressors: Readonly<Record<string, readonly [string, ...string[]]>> = {
  '.xz': ['xz', '-d'],
  '.zst': ['zstd', '-d', '-q', '--rm'],
  '.gz': ['gzip', '-d'],
};

function decompressModules(folder: string): void {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  for (const [ending, [command, ...args]] of Object.entries(decompressors)) {
    const compressed = files.filter((file) => file.endsWith(`.ko${ending}`));
    if (compressed.length > 0) run(command, [...args, ...compressed], folder);
  }
}

/** Makes a cache entry. */
function arrange({ release, image, modules }: KernelFiles, entry: string): void {
  const target = path.join(entry, 'lib/modules', release);
  mkdirSync(target, { recursive: true });
  copyGuestModules(modules, target);
  decompressModules(target);
  // A package leaves this to its installation, and names have changed.
  run('busybox', ['depmod', '-b', entry, release]);
  writeFileSync(path.join(entry, 'vmlinux'), readVmlinux(image));
}

/** Another run may have been faster; what has no vmlinux is nobody's. */
function putInto(folder: string, name: string, entry: string): void {
  const target = path.join(folder, name);
  if (existsSync(path.join(target, 'vmlinux'))) return;
  rmSync(target, { recursive: true, force: true });
  renameSync(entry, target);
}

/** The kernel that KERNEL names; null: it names none. */
function prepareGiven(folder: string): GuestKernel | null {
  const { KERNEL: given } = process.env;
  if (!given) return null;
  const name = `given-${keyOf(given)}`;
  return inWorkFolder(folder, (work) => {
    const files = givenKernel(given, (packageFile) => {
      const unpacked = path.join(work, 'unpacked');
      run('dpkg-deb', ['-x', packageFile, unpacked]);
      return unpacked;
    });
    const entry = path.join(work, 'entry');
    if (!existsSync(path.join(folder, name, 'vmlinux'))) {
      arrange(files, entry);
      putInto(folder, name, entry);
    }
    const { release } = files;
    return {
      release,
      vmlinux: path.join(folder, name, 'vmlinux'),
      modules: path.join(folder, name, 'lib/modules'),
    };
  });
}

function inWorkFolder<T>(folder: string, action: (work: string) => T): T {
  mkdirSync(folder, { recursive: true });
  const work = mkdtempSync(path.join(folder, 'unfinished-'));
  try {
    return action(work);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The kernel that is asked for, from the cache or downloaded into it. Throws with the reason when it cannot be had. */
export function prepareKernel(): GuestKernel {
  const folder = cacheFolder();
  const ready = prepareGiven(folder) ?? cachedKernel(folder);
  if (ready !== null) return ready;
  return inWorkFolder(folder, (work) => {
    const unpacked = path.join(work, 'unpacked');
    run('dpkg-deb', ['-x', download(work), unpacked]);
    const files = kernelInTree(unpacked);
    const entry = path.join(work, 'entry');
    arrange(files, entry);
    putInto(folder, files.release, entry);
    return kernelIn(folder, files.release);
  });
}
