// SPDX-License-Identifier: Apache-2.0
/** Queues and AZs as the planner sees them: who may use which queue, and with which share. */
import { VnicError } from '../errors.ts';
import { bucketCount, hasQueue, maxAzs, maxQueues, queueMask, rowCount } from './table.ts';

export interface QueueSpec {
  /** 0 to maxQueues - 1. */
  index: number;
  /** AZ index, 1 to maxAzs, or null. */
  az: number | null;
  cpu: number;
  /** -1 where the kernel does not know it. */
  numaNode: number;
  usable: boolean;
}

export interface AzSpec {
  /** 1 to maxAzs: the AZ's row in the steering table. */
  index: number;
  name: string;
  /** Above 0. Each queue of the AZ has this weight, so equal weights give every queue the same share. */
  weight: number;
  /** Indices of its queues; may be empty. */
  queues: readonly number[];
}

export interface Topology {
  queues: readonly QueueSpec[];
  azs: readonly AzSpec[];
}

function invalid(message: string, remedy: string): VnicError {
  return new VnicError('invalid_config', message, { remedy });
}

/** Throws invalid_config where queues and AZs contradict each other or leave their ranges. */
export function checkTopology({ queues, azs }: Topology): void {
  const azOfQueue = new Map<number, number | null>();
  if (queues.length === 0) throw invalid('there is no queue to steer to', 'give at least one queue');
  for (const queue of queues) {
    if (!Number.isInteger(queue.index) || queue.index < 0 || queue.index >= maxQueues) {
      throw invalid(`queue ${queue.index} is out of range`, `use queues 0 to ${maxQueues - 1}`);
    }
    if (azOfQueue.has(queue.index)) throw invalid(`queue ${queue.index} is given twice`, 'give each queue once');
    azOfQueue.set(queue.index, queue.az);
  }
  const seen = new Set<number>();
  for (const az of azs) {
    if (!Number.isInteger(az.index) || az.index < 1 || az.index > maxAzs) {
      throw invalid(`AZ ${az.name} has index ${az.index}`, `use indices 1 to ${maxAzs}`);
    }
    if (seen.has(az.index)) throw invalid(`AZ index ${az.index} is given twice`, 'give each AZ its own index');
    seen.add(az.index);
    if (!Number.isFinite(az.weight) || az.weight <= 0) {
      throw invalid(`AZ ${az.name} has weight ${az.weight}`, 'give a weight above 0');
    }
    for (const queue of az.queues) {
      if (!azOfQueue.has(queue)) {
        throw invalid(`AZ ${az.name} names queue ${queue}, which does not exist`, 'name queues that the device has');
      }
      if (azOfQueue.get(queue) !== az.index) {
        throw invalid(`queue ${queue} of AZ ${az.name} is in another AZ`, 'give each queue to one AZ');
      }
    }
  }
  for (const queue of queues) {
    if (queue.az === null) continue;
    if (!azs.some((az) => az.index === queue.az && az.queues.includes(queue.index))) {
      throw invalid(`queue ${queue.index} is in AZ ${queue.az}, which does not name it`, "add it to the AZ's queues");
    }
  }
}

/** Bit mask of the usable queues. */
export function usableMask(queues: readonly QueueSpec[]): bigint {
  return queueMask(queues.filter((queue) => queue.usable).map((queue) => queue.index));
}

/** The queues with those of the bit mask usable, whatever they were. */
export function withUsable(queues: readonly QueueSpec[], mask: bigint): QueueSpec[] {
  return queues.map((queue) => ({ ...queue, usable: hasQueue(mask, queue.index) }));
}

/** Indices of the queues that a row may use: its AZ's usable ones, or all usable ones if the AZ has none. */
export function eligibleQueues(queues: readonly QueueSpec[], row: number): number[] {
  const usable = queues.filter((queue) => queue.usable);
  const own = row === 0 ? [] : usable.filter((queue) => queue.az === row);
  return (own.length > 0 ? own : usable).map((queue) => queue.index).sort((a, b) => a - b);
}

/** Weight of each queue, index: queue. A queue without AZ has weight 1. */
export function queueWeights({ queues, azs }: Topology): Float64Array {
  const weights = new Float64Array(maxQueues);
  for (const queue of queues) {
    weights[queue.index] = azs.find((az) => az.index === queue.az)?.weight ?? 1;
  }
  return weights;
}

/** What a row may use, and in which proportion. */
export interface RowUse {
  /** Ascending. */
  eligible: readonly number[];
  /** Index: queue. */
  weights: Float64Array;
}

/** For each row: its AZ's usable queues, or all usable ones if the AZ has none, by their weights. */
export function rowUses(topology: Topology): RowUse[] {
  const weights = queueWeights(topology);
  return Array.from({ length: rowCount }, (_, row) => ({ eligible: eligibleQueues(topology.queues, row), weights }));
}

/**
 * Whether a row may use queues that it could not use before, or its queues in another proportion. Losing queues is
 * neither, and losing all that it had says nothing of those it gets.
 * @param former the row's use in the table that is there
 * @param usable of all rows, bit mask
 */
export function hasNewUse(former: RowUse, use: RowUse, usable: bigint): boolean {
  const kept = former.eligible.filter((queue) => hasQueue(usable, queue));
  if (kept.length === 0) return false;
  if (kept.length !== use.eligible.length || kept.some((queue, i) => queue !== use.eligible[i])) return true;
  const scale = use.weights[kept[0]!]! / former.weights[kept[0]!]!;
  return kept.some((queue) => Math.abs(use.weights[queue]! / former.weights[queue]! / scale - 1) > 1e-9);
}

/** Buckets that each eligible queue should have by weight, index: queue; 0 for the others. They add up to `total`. */
export function bucketShares(
  weights: Float64Array,
  eligible: readonly number[],
  total: number = bucketCount,
): Float64Array {
  const shares = new Float64Array(maxQueues);
  let sum = 0;
  for (const queue of eligible) sum += weights[queue]!;
  for (const queue of eligible) shares[queue] = (total * weights[queue]!) / sum;
  return shares;
}

export interface CpuSpec {
  cpu: number;
  /** -1 where the kernel does not know it. */
  numaNode: number;
}

/**
 * Queues 0 to queueCount - 1, each with its AZ and a CPU. CPUs are dealt in turn, in their order, so that the queues of one AZ
 * stand on as many CPUs as there are. numaNode -1 uses all CPUs, otherwise only those of that node.
 */
export function planQueues(input: {
  queueCount: number;
  azs: readonly AzSpec[];
  cpus: readonly CpuSpec[];
  numaNode: number;
}): QueueSpec[] {
  const cpus = input.cpus.filter((cpu) => input.numaNode === -1 || cpu.numaNode === input.numaNode);
  if (cpus.length === 0) {
    throw invalid(`NUMA node ${input.numaNode} has no online CPU`, 'set numa_node to -1 or to a node with CPUs');
  }
  const queues = Array.from({ length: input.queueCount }, (_, index): QueueSpec => {
    const { cpu, numaNode } = cpus[index % cpus.length]!;
    const az = input.azs.find((candidate) => candidate.queues.includes(index))?.index ?? null;
    return { index, az, cpu, numaNode, usable: true };
  });
  checkTopology({ queues, azs: input.azs });
  return queues;
}
