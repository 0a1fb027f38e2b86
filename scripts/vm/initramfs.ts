// SPDX-License-Identifier: Apache-2.0
/**
 * The guest's root: busybox, the tools that the product calls, the libraries of those and of Node, and the modules that
 * it takes to mount the rest. The checkout (with Node) and the other modules come by 9p.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { type ArchiveEntry, writeArchive } from './archive.ts';
import type { GuestKernel } from './kernel.ts';

const root = path.join(import.meta.dirname, '../..');

/** What init.sh and the kernel call by these names. */
const APPLETS = [
  'readlink',
  'sh',
  'mount',
  'mkdir',
  'insmod',
  'modprobe',
  'stty',
  'sleep',
  'poweroff',
  'cat',
  'echo',
  'uname',
];
const TOOLS = ['ip', 'tc', 'ethtool'];
const LIBRARIES = ['libbpf.so.1'];
const BOOT_MODULES = ['virtio_pci', '9pnet_virtio', '9p'];
const LIBRARY_FOLDERS = ['/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu', '/lib64', '/usr/lib64', '/usr/lib'];

/** Where a command is; null if it is not installed. */
export function findCommand(name: string): string | null {
  const folders = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`.split(':');
  return folders.map((folder) => path.join(folder, name)).find(isExecutable) ?? null;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Absolute paths of the libraries that a program or library needs. */
function librariesOf(file: string): string[] {
  // A static program has none, and ldd ends with an error for it.
  const { stdout } = spawnSync('ldd', [file], { encoding: 'utf8' });
  return [...stdout.matchAll(/(\/\S+\.so\S*)/g)].map(([, library]) => library!);
}

/** Module files in the order in which they can be loaded, from modules.dep. Throws if a module is missing. */
function bootModules({ modules, release }: GuestKernel): string[] {
  const folder = path.join(modules, release);
  const lines = readFileSync(path.join(folder, 'modules.dep'), 'utf8').trim().split('\n');
  const needs = new Map(
    lines.map((line) => {
      const [file = '', rest = ''] = line.split(':');
      return [file, rest.split(' ').filter((name) => name !== '')] as const;
    }),
  );
  const builtin = readFileSync(path.join(folder, 'modules.builtin'), 'utf8');
  const isModule = (file: string, name: string) => new RegExp(`/${name}\\.ko(\\.\\w+)?$`).test(file);
  const order = new Set<string>();
  const add = (file: string): void => {
    for (const needed of needs.get(file) ?? []) if (!order.has(needed)) add(needed);
    order.add(file);
  };
  for (const name of BOOT_MODULES) {
    const file = [...needs.keys()].find((candidate) => isModule(candidate, name));
    if (file !== undefined) add(file);
    else if (!builtin.includes(`/${name}.ko\n`)) throw new Error(`kernel ${release} has no module ${name}`);
  }
  return [...order].map((file) => path.join(folder, file));
}

/** Throws when something that belongs into it is not installed. */
export function buildInitramfs(kernel: GuestKernel): Buffer {
  const entries = new Map<string, ArchiveEntry>();
  const addFile = (to: string, from: string, executable = true): void => {
    entries.set(to, { kind: 'file', data: readFileSync(from), executable });
  };
  const addWithLibraries = (to: string, from: string): void => {
    addFile(to, from);
    for (const library of librariesOf(from)) addFile(library, library);
  };
  const command = (name: string): string => {
    const file = findCommand(name);
    if (file === null) throw new Error(`${name} is not installed`);
    return file;
  };

  for (const folder of ['/proc', '/sys', '/dev', '/run', '/tmp', '/root', '/checkout', '/lib/modules']) {
    entries.set(folder, { kind: 'folder' });
  }
  addWithLibraries('/bin/busybox', command('busybox'));
  for (const applet of APPLETS) entries.set(`/bin/${applet}`, { kind: 'link', target: 'busybox' });
  // The kernel asks for modules by this path.
  entries.set('/sbin/modprobe', { kind: 'link', target: '/bin/busybox' });
  for (const tool of TOOLS) addWithLibraries(`/bin/${tool}`, command(tool));
  for (const library of LIBRARIES) {
    const file = LIBRARY_FOLDERS.map((folder) => path.join(folder, library)).find(existsSync);
    if (file === undefined) throw new Error(`${library} is not installed`);
    addWithLibraries(file, file);
  }
  for (const library of librariesOf(path.join(root, 'node_modules/.bin/node'))) addFile(library, library);

  const modules = bootModules(kernel);
  for (const module of modules) addFile(`/boot/${path.basename(module)}`, module, false);
  const order = modules.map((module) => `${path.basename(module)}\n`).join('');
  entries.set('/boot/order', { kind: 'file', data: Buffer.from(order), executable: false });
  addFile('/init', path.join(import.meta.dirname, 'init.sh'));
  return writeArchive(entries);
}
