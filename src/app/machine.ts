// SPDX-License-Identifier: Apache-2.0
/** What the machine has: CPUs and their NUMA nodes, and the shape of a device. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { VnicError } from '../errors.ts';
import { parseCpuList } from '../loader/cpu-set.ts';
import type { Native } from '../loader/ffi/index.ts';
import { inNetns } from '../loader/netns.ts';
import type { DeviceId } from '../loader/pins.ts';
import { realFiles } from '../loader/preflight/host-ports.ts';
import { Libc, Timespec } from '../maps/generated/host.ts';
import type { CpuSpec } from '../steering/queues.ts';
import type { Rule } from '../steering/rules/model.ts';
import { needsShaping } from '../steering/rules/shaping.ts';
import { gatherCpus } from '../tune/facts.ts';

const CPUS = '/sys/devices/system/cpu';

/** Online CPUs, ascending. numaNode is -1 where the kernel does not tell. */
export function onlineCpus(): CpuSpec[] {
  return gatherCpus(realFiles).map(({ cpu, node }) => ({ cpu, numaNode: node }));
}

/** tcx came with Linux 6.6. @param kernelRelease as `uname -r` prints it */
export function hasTcx(kernelRelease: string): boolean {
  const [major = 0, minor = 0] = kernelRelease.split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 6);
}

/** One more than the highest CPU number that can ever be online: the size of per-CPU maps. */
export function possibleCpuCount(): number {
  return Math.max(...parseCpuList(readFileSync(`${CPUS}/possible`, 'utf8'))) + 1;
}

/** CLOCK_MONOTONIC_COARSE advances once a jiffy, and its resolution says by how much (clock_getres(2)). */
export function jiffyNs(native: Native): number {
  const resolution = native.memory.alloc(Timespec.size);
  native.check(native.libc.clock_getres(Libc.clockMonotonicCoarse, resolution), 'clock_getres');
  const { tvSec, tvNsec } = Timespec.decode(resolution);
  return Number(tvSec) * 1e9 + Number(tvNsec);
}

export interface DeviceShape {
  ifindex: number;
  mac: string;
  rxQueues: number;
  txQueues: number;
}

/** Of a device in the calling thread's network namespace. Throws `not_found`. */
export function deviceShape(name: string): DeviceShape {
  let text: string;
  try {
    text = execFileSync('ip', ['-j', '-d', 'link', 'show', 'dev', name], { encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    throw new VnicError('not_found', `There is no network device ${name} here.`, {
      remedy: 'List the devices with: ip link (use --netns NAME for a device in a namespace)',
      cause: error,
    });
  }
  const [link] = JSON.parse(text) as [
    { ifindex: number; address?: string; num_rx_queues?: number; num_tx_queues?: number },
  ];
  return {
    ifindex: link.ifindex,
    mac: link.address ?? '',
    rxQueues: link.num_rx_queues ?? 1,
    txQueues: link.num_tx_queues ?? 1,
  };
}

/**
 * Whether limits that shape can: the device's packets leave through fq, which keeps to departure times (a multiqueue root
 * counts by its leaves). True without a look where no rule asks for it.
 */
export function canShape(native: Native, device: DeviceId, rules: readonly Rule[]): boolean {
  if (!needsShaping(rules)) return true;
  const kinds = inNetns(native, device.netns, () => qdiscKinds(device.name));
  const leaves = kinds.filter((kind) => !['mq', 'clsact', 'ingress'].includes(kind));
  return leaves.length > 0 && leaves.every((kind) => kind === 'fq');
}

/** Queueing disciplines of a device of the current namespace. Throws `not_found`. */
export function qdiscKinds(name: string): string[] {
  const args = ['-j', 'qdisc', 'show', 'dev', name];
  try {
    const text = execFileSync('tc', args, { encoding: 'utf8', stdio: 'pipe' });
    return (JSON.parse(text) as { kind: string }[]).map(({ kind }) => kind);
  } catch (cause) {
    throw new VnicError('not_found', `The queueing disciplines of ${name} cannot be listed: is it still there?`, {
      remedy: `Look at: tc qdisc show dev ${name}`,
      cause,
    });
  }
}
