// SPDX-License-Identifier: Apache-2.0
/** The guest's own virtio_net device. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { guestAddresses, peerAzs, peerMac } from '../harness/protocol.ts';

export const nicName = 'eth0';
const QUEUES_FOLDER = `/sys/class/net/${nicName}/queues`;

export function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

export function succeeds(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

/** Up, with addresses, static neighbours, all the queues the device has, and fq, without which egress cannot shape. */
export function setUpNic(): void {
  for (const scope of ['all', 'default', nicName]) {
    const settings = { accept_dad: 0, accept_ra: 0, router_solicitations: 0, addr_gen_mode: 1 };
    for (const [name, value] of Object.entries(settings)) {
      writeFileSync(`/proc/sys/net/ipv6/conf/${scope}/${name}`, String(value));
    }
  }
  // A socket must hold a burst whole: what a check loses there would look like loss in the dataplane.
  writeFileSync('/proc/sys/net/core/rmem_max', String(16 << 20));
  // What the queues of a device get when it comes up.
  writeFileSync('/proc/sys/net/core/default_qdisc', 'fq');
  const most = /^Combined:\s+(\d+)$/m.exec(run('ethtool', '-l', nicName))?.[1];
  assert.ok(most !== undefined, 'ethtool -l names no combined channels');
  setCombined(Number(most));
  run('ip', 'link', 'set', nicName, 'up');
  run('ip', 'addr', 'add', `${guestAddresses.ipv4}/8`, 'dev', nicName);
  run('ip', 'addr', 'add', `${guestAddresses.ipv6}/16`, 'dev', nicName, 'nodad');
  for (const { ipv4, ipv6 } of peerAzs) {
    for (const address of [ipv4, ipv6]) run('ip', 'neigh', 'replace', address, 'lladdr', peerMac, 'dev', nicName);
  }
}

/** Queue pairs in use. One that is the number already is no error. */
export function setCombined(count: number): void {
  const result = spawnSync('ethtool', ['-L', nicName, 'combined', String(count)], { encoding: 'utf8' });
  assert.ok(result.status === 0 || /unmodified/.test(result.stderr), result.stderr);
}

export interface AttachedXdp {
  /** `XDP_ATTACHED_*` of linux/if_link.h: 1 is native, 2 is generic. */
  readonly mode: number;
  readonly name: string;
}

/** What `ip link` shows of XDP, or null. */
export function attachedXdp(): AttachedXdp | null {
  const [link] = JSON.parse(run('ip', '-j', '-d', 'link', 'show', 'dev', nicName)) as {
    xdp?: { mode: number; prog: { name: string } };
  }[];
  return link?.xdp === undefined ? null : { mode: link.xdp.mode, name: link.xdp.prog.name };
}

/** Kinds of the qdiscs on the device. */
export function qdiscs(): string[] {
  const list = JSON.parse(run('tc', '-j', 'qdisc', 'show', 'dev', nicName)) as { kind: string }[];
  return list.map(({ kind }) => kind);
}

/** `rx7_xdp_drops`, as virtio_net says from Linux 6.10 on, by the name it had before. */
export function formerName(counter: string): string {
  return counter.replace(/^([rt]x)(\d+)_/, '$1_queue_$2_');
}

/** Counters of the driver whose names match, summed by the number in the name: `tx_queue_7_packets` is 7. */
export function queueCounters(pattern: RegExp, device = nicName): Map<number, number> {
  const counters = new Map<number, number>();
  for (const [, name = '', value] of run('ethtool', '-S', device).matchAll(/^\s*(\w+): (\d+)$/gm)) {
    const queue = pattern.exec(formerName(name))?.[1];
    if (queue !== undefined) counters.set(Number(queue), (counters.get(Number(queue)) ?? 0) + Number(value));
  }
  return counters;
}

/** What has grown, without zeros. */
export function grown(before: ReadonlyMap<number, number>, after: ReadonlyMap<number, number>): Map<number, number> {
  const all = [...after].map(([queue, value]) => [queue, value - (before.get(queue) ?? 0)] as const);
  return new Map(all.filter(([, value]) => value !== 0).sort(([a], [b]) => a - b));
}

/** The driver ties TX queues to CPUs, and the kernel then ignores the queue that a program chose. */
export function clearXps(): void {
  for (const queue of readdirSync(QUEUES_FOLDER).filter((name) => name.startsWith('tx-'))) {
    writeFileSync(`${QUEUES_FOLDER}/${queue}/xps_cpus`, '0');
  }
}
