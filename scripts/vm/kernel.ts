// SPDX-License-Identifier: Apache-2.0
/**
 * The guest's kernel: the distribution's own package, downloaded once, unpacked into a cache and never installed.
 *
 *     ${XDG_CACHE_HOME:-~/.cache}/vnicctl/vm/<release>/vmlinux
 *     ${XDG_CACHE_HOME:-~/.cache}/vnicctl/vm/<release>/lib/modules/<release>/
 *
 * Environment: VNIC_VM_KERNEL names another kernel package, such as linux-image-6.1.0-50-amd64.
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { extractVmlinux } from './vmlinux.ts';

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
    ? readdirSync(folder).filter((name) => existsSync(path.join(folder, name, 'vmlinux')))
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

function keepOnlyGuestModules(modules: string): void {
  const all = path.join(modules, 'kernel');
  const kept = path.join(modules, 'kept');
  for (const folder of KEPT_MODULES.filter((name) => existsSync(path.join(all, name)))) {
    mkdirSync(path.dirname(path.join(kept, folder)), { recursive: true });
    renameSync(path.join(all, folder), path.join(kept, folder));
  }
  rmSync(all, { recursive: true });
  renameSync(kept, all);
  for (const entry of readdirSync(path.join(all, 'drivers/net'), { withFileTypes: true })) {
    if (entry.isDirectory()) rmSync(path.join(all, 'drivers/net', entry.name), { recursive: true });
  }
}

/** Turns an unpacked package into a cache entry, below `work`. */
function arrange(unpacked: string, work: string): string {
  // Since the merge of /usr a package may have its modules there.
  const found = ['lib/modules', 'usr/lib/modules'].map((name) => path.join(unpacked, name)).find(existsSync);
  const release = found === undefined ? undefined : readdirSync(found)[0];
  if (found === undefined || release === undefined) throw new Error('the kernel package has no modules');
  const entry = path.join(work, 'entry');
  const modules = path.join(entry, 'lib/modules', release);
  mkdirSync(path.dirname(modules), { recursive: true });
  renameSync(path.join(found, release), modules);
  keepOnlyGuestModules(modules);
  // The package leaves this to its installation.
  run('busybox', ['depmod', '-b', entry, release]);
  const image = readFileSync(path.join(unpacked, 'boot', `vmlinuz-${release}`));
  writeFileSync(path.join(entry, 'vmlinux'), extractVmlinux(image));
  return release;
}

/** The kernel from the cache; downloads it if it is not there. Throws with the reason when it cannot be had. */
export function prepareKernel(): GuestKernel {
  const folder = cacheFolder();
  const cached = cachedKernel(folder);
  if (cached !== null) return cached;
  mkdirSync(folder, { recursive: true });
  const work = mkdtempSync(path.join(folder, 'unfinished-'));
  try {
    const unpacked = path.join(work, 'unpacked');
    run('dpkg-deb', ['-x', download(work), unpacked]);
    const release = arrange(unpacked, work);
    const target = path.join(folder, release);
    // Another run may have been faster; what has no vmlinux is nobody's.
    if (!existsSync(path.join(target, 'vmlinux'))) {
      rmSync(target, { recursive: true, force: true });
      renameSync(path.join(work, 'entry'), target);
    }
    return kernelIn(folder, release);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
