// SPDX-License-Identifier: Apache-2.0
/** Which CPU serves which queue. Pure. */
import { VnicError } from '../errors.ts';
import { formatCpuList } from '../loader/cpu-set.ts';
import type { CpuFacts } from './facts.ts';

export interface PlacementWish {
  /** NUMA node that the queues stay on; -1: all nodes. */
  readonly numaNode: number;
  /** Whether CPUs of the device's node come first. */
  readonly numaAware: boolean;
  /** The device's node; -1: unknown. */
  readonly deviceNode: number;
}

/**
 * CPUs in the order in which queues are dealt to them: those of the device's node first, and within the others' too the
 * first thread of each core before its siblings, which share its caches and execution units. Queues that outnumber
 * them begin anew. Throws `invalid_config` where the asked node has no CPU that is online.
 */
export function orderCpus(cpus: readonly CpuFacts[], wish: PlacementWish): CpuFacts[] {
  const usable = wish.numaNode === -1 ? cpus : cpus.filter(({ node }) => node === wish.numaNode);
  if (usable.length === 0) {
    const nodes = [...new Set(cpus.map(({ node }) => node))];
    throw new VnicError('invalid_config', `NUMA node ${wish.numaNode} has no CPU that is online.`, {
      remedy: `Set numa_node to -1 for all nodes, or to one of ${formatCpuList(nodes.filter((node) => node >= 0)) || 'none'}.`,
    });
  }
  const isRemote = ({ node }: CpuFacts): number =>
    wish.numaAware && wish.deviceNode !== -1 && node !== wish.deviceNode ? 1 : 0;
  return usable.toSorted((a, b) => isRemote(a) - isRemote(b) || a.thread - b.thread || a.cpu - b.cpu);
}

/** The CPU of each queue. */
export function placeQueues(cpus: readonly CpuFacts[], queues: number, wish: PlacementWish): number[] {
  const order = orderCpus(cpus, wish);
  return Array.from({ length: queues }, (_, queue) => order[queue % order.length]!.cpu);
}

/**
 * The CPUs that send by each TX queue: every CPU by one queue at least. A queue has its own CPU; one that no queue has
 * goes to the queue nearest to it (same core, same node, any), the emptiest of them.
 */
export function shareTxQueues(cpus: readonly CpuFacts[], queueCpus: readonly number[]): number[][] {
  const shares = queueCpus.map((cpu) => [cpu]);
  const served = new Set(queueCpus);
  const facts = new Map(cpus.map((cpu) => [cpu.cpu, cpu]));
  for (const cpu of cpus.filter((candidate) => !served.has(candidate.cpu))) {
    const distance = (queue: number): number => {
      const other = facts.get(queueCpus[queue]!);
      return other?.core === cpu.core ? 0 : other?.node === cpu.node ? 1 : 2;
    };
    const [nearest] = shares
      .map((share, queue) => ({ share, queue, distance: distance(queue) }))
      .sort((a, b) => a.distance - b.distance || a.share.length - b.share.length || a.queue - b.queue);
    nearest?.share.push(cpu.cpu);
  }
  return shares;
}
