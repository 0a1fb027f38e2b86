// SPDX-License-Identifier: Apache-2.0
/** The test tiers: where their files are, and whether this machine can run them. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { lacksGuest } from '../vm/requirements.ts';

export interface Tier {
  readonly name: string;
  /** What the tier needs, checked in this order; the first that is missing is the reason for not running it. */
  readonly needs: readonly (() => string | null)[];
}

const BPFFS = '/sys/fs/bpf';

/** Bit numbers of linux/capability.h. */
const CAPABILITIES = { CAP_NET_ADMIN: 12, CAP_SYS_ADMIN: 21, CAP_BPF: 39 } as const;

function lacksCapabilities(): string | null {
  const line = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'));
  const effective = BigInt(`0x${line?.[1] ?? '0'}`);
  const lacking = Object.entries(CAPABILITIES).filter(([, bit]) => ((effective >> BigInt(bit)) & 1n) === 0n);
  return lacking.length === 0 ? null : `needs root (${lacking.map(([name]) => name).join(', ')} missing)`;
}

function lacksBpf(): string | null {
  const isMounted = () => / \/sys\/fs\/bpf bpf /.test(readFileSync('/proc/mounts', 'utf8'));
  if (!isMounted()) {
    const mount = run('mount', ['-t', 'bpf', 'bpf', BPFFS]);
    if (!isMounted()) return `cannot mount bpffs on ${BPFFS}: ${mount}`;
  }
  const pin = path.join(BPFFS, `vnic-probe-${process.pid}`);
  if (!existsSync('/usr/sbin/bpftool')) return null;
  const failure = run(
    'bpftool',
    'map create'.split(' ').concat(pin, 'type array key 4 value 4 entries 1 name probe'.split(' ')),
  );
  rmSync(pin, { force: true });
  return failure === null ? null : `the kernel refuses to create a BPF map: ${failure}`;
}

function lacksNamespaces(): string | null {
  const name = `vnic-probe-${process.pid}`;
  const failure =
    run('ip', ['netns', 'add', name]) ??
    run('ip', ['-n', name, 'link', 'add', 'vnic0', 'type', 'veth', 'peer', 'name', 'vnic1']);
  run('ip', ['netns', 'del', name]);
  return failure === null ? null : `cannot create network namespaces with veth devices: ${failure}`;
}

/** Runs a command; null if it succeeded, else the last line it said. */
function run(command: string, args: readonly string[]): string | null {
  const result = spawnSync(command, args, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
  if (result.error !== undefined) return `${command}: ${result.error.message}`;
  if (result.status === 0) return null;
  return result.stderr.trim().split('\n').at(-1) ?? `${command} ended with ${result.status}`;
}

export const TIERS: readonly Tier[] = [
  { name: 'unit', needs: [] },
  { name: 'packets', needs: [lacksCapabilities, lacksBpf] },
  { name: 'netns', needs: [lacksCapabilities, lacksBpf, lacksNamespaces] },
  { name: 'vm', needs: [lacksCapabilities, lacksNamespaces, lacksGuest] },
];

/** Why this machine cannot run the tier, or null. */
export function whyNot(tier: Tier): string | null {
  for (const need of tier.needs) {
    const reason = need();
    if (reason !== null) return reason;
  }
  return null;
}

/** All `*.test.ts` below `<testsFolder>/<tier>`, sorted, as absolute paths. */
export function testFiles(testsFolder: string, tier: Tier): string[] {
  const folder = path.join(testsFolder, tier.name);
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .sort()
    .map((name) => path.join(folder, name));
}

/** Keeps the files that are one of the paths or lie below one. */
export function narrow(files: readonly string[], paths: readonly string[]): string[] {
  const wanted = paths.map((entry) => path.resolve(entry));
  return files.filter((file) => wanted.some((entry) => file === entry || file.startsWith(entry + path.sep)));
}

/** A private folder for state that tests must not share with an installed vnicctl. */
export function makeStateFolder(): string {
  const folder = path.join('/tmp', `vnic-test-${process.pid}`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return folder;
}
