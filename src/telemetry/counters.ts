// SPDX-License-Identifier: Apache-2.0
/** Dataplane counters, summed from the cells that each CPU writes. Reads mapped memory: no system call. */
import {
  type VnicCpuStats,
  VnicDrop,
  VnicLatency,
  VnicLimits,
  VnicQueueStats,
  VnicUnparsed,
} from '../maps/generated/abi.ts';
import type { MappedArray } from '../maps/index.ts';

export interface CounterCells {
  queueStats: MappedArray<VnicQueueStats>;
  cpuStats: MappedArray<VnicCpuStats>;
  latency: MappedArray<VnicLatency>;
}

export interface QueueCounters {
  queue: number;
  /** Arrived on this NIC queue. */
  rxPackets: bigint;
  rxBytes: bigint;
  /** Sent by the steering table, or by a rule, to this queue. */
  steeredPackets: bigint;
  steeredBytes: bigint;
  /** Dropped by a rule or limit, of those that arrived on this NIC queue. */
  droppedPackets: bigint;
  droppedBytes: bigint;
  txPackets: bigint;
  txBytes: bigint;
  /** Of those steered to this queue: arrived on another NIC queue. */
  missedPackets: bigint;
  /** Of those steered to this queue: arrived here and were passed here, without a CPUMAP entry. */
  directPackets: bigint;
  /** Of those steered to this queue: arrived here, but not on the queue's CPU. */
  offCpuPackets: bigint;
}

const queueFields = [
  'rxPackets',
  'rxBytes',
  'steeredPackets',
  'steeredBytes',
  'droppedPackets',
  'droppedBytes',
  'txPackets',
  'txBytes',
  'missedPackets',
  'directPackets',
  'offCpuPackets',
] as const;

/** Packets of all queues since attach. */
export function receivedPackets({ queueStats }: Pick<CounterCells, 'queueStats'>): bigint {
  const cells = queueStats.asBigUint64();
  const cellWords = queueStats.stride / 8;
  let sum = 0n;
  for (let at = VnicQueueStats.offsets.rxPackets / 8; at < cells.length; at += cellWords) {
    sum = BigInt.asUintN(64, sum + cells[at]!);
  }
  return sum;
}

/** One entry for each queue from 0 to `queues` - 1, and for each higher one that has counted something. */
export function readQueueCounters({ queueStats }: Pick<CounterCells, 'queueStats'>, queues: number): QueueCounters[] {
  const cells = queueStats.asBigUint64();
  const cellWords = queueStats.stride / 8;
  const cpuWords = cellWords * VnicLimits.maxQueues;
  const all = Array.from({ length: VnicLimits.maxQueues }, (_, queue): QueueCounters => {
    const counters = { queue } as QueueCounters;
    for (const field of queueFields) {
      let sum = 0n;
      // A u64 that wraps, which is what the cells are, is added without making a bigint for each step.
      for (let at = queue * cellWords + VnicQueueStats.offsets[field] / 8; at < cells.length; at += cpuWords) {
        sum = BigInt.asUintN(64, sum + cells[at]!);
      }
      counters[field] = sum;
    }
    return counters;
  });
  return all.filter((counters) => counters.queue < queues || queueFields.some((field) => counters[field] > 0n));
}

export interface DataplaneCounters {
  rxPackets: bigint;
  rxBytes: bigint;
  parsed: bigint;
  /** By reason; only reasons that occurred. */
  unparsed: Record<string, bigint>;
  /** By reason. */
  drops: Record<string, bigint>;
  redirected: bigint;
  passed: bigint;
  /** Taken from the CPUMAP entries. */
  received: bigint;
  /**
   * Handed to a CPUMAP entry and not taken from it: still in its ring, or dropped because it was full.
   * A steady value without traffic is loss.
   */
  notReceived: bigint;
  flowsCreated: bigint;
  flowsEvicted: bigint;
  flowTableBusy: bigint;
  reclassified: bigint;
  limiterContended: bigint;
  metadataFailed: bigint;
  txUnsteeredPackets: bigint;
  /** Flows that left a queue that held nothing of them any more. */
  movesInOrder: bigint;
  /** Flows whose queue was lost. */
  movesForced: bigint;
  /** Flows that left a usable queue although it could still hold packets of theirs. */
  movesRisked: bigint;
  /** Packets that went to the queue their flow was about to leave. */
  heldPackets: bigint;
}

/** `badIhl` as metrics and reports write it: `bad_ihl`. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

export const unparsedReasons: readonly string[] = Object.entries(VnicUnparsed)
  .filter(([, value]) => value < VnicUnparsed.reasons)
  .sort(([, a], [, b]) => a - b)
  .map(([name]) => snakeCase(name));

export const dropReasons: readonly string[] = Object.entries(VnicDrop)
  .filter(([, value]) => value < VnicDrop.reasons)
  .sort(([, a], [, b]) => a - b)
  .map(([name]) => snakeCase(name));

/** One element for each CPU. */
export function readCpuCells({ cpuStats }: Pick<CounterCells, 'cpuStats'>): VnicCpuStats[] {
  return Array.from({ length: cpuStats.length }, (_, cpu) => cpuStats.read(cpu));
}

export function readCounters(cells: CounterCells): DataplaneCounters {
  const perCpu = readCpuCells(cells);
  return sumCounters(perCpu, readQueueCounters(cells, 0));
}

/** Of all CPUs and all queues together. */
export function sumCounters(perCpu: readonly VnicCpuStats[], queues: readonly QueueCounters[]): DataplaneCounters {
  const sum = <T>(items: readonly T[], pick: (item: T) => bigint): bigint =>
    items.reduce((total, item) => total + pick(item), 0n);
  const redirected = sum(perCpu, (cpu) => cpu.redirected);
  const received = sum(perCpu, (cpu) => cpu.received);
  const unparsed: Record<string, bigint> = {};
  unparsedReasons.forEach((name, reason) => {
    const count = sum(perCpu, (cpu) => cpu.unparsed[reason] ?? 0n);
    if (count > 0n) unparsed[name] = count;
  });
  return {
    rxPackets: sum(queues, (queue) => queue.rxPackets),
    rxBytes: sum(queues, (queue) => queue.rxBytes),
    parsed: sum(perCpu, (cpu) => cpu.parsed),
    unparsed,
    drops: Object.fromEntries(dropReasons.map((name, reason) => [name, sum(perCpu, (cpu) => cpu.drops[reason] ?? 0n)])),
    redirected,
    passed: sum(perCpu, (cpu) => cpu.passed),
    received,
    notReceived: redirected - received,
    flowsCreated: sum(perCpu, (cpu) => cpu.flowsCreated),
    flowsEvicted: sum(perCpu, (cpu) => cpu.flowsEvicted),
    flowTableBusy: sum(perCpu, (cpu) => cpu.flowTableBusy),
    reclassified: sum(perCpu, (cpu) => cpu.reclassified),
    limiterContended: sum(perCpu, (cpu) => cpu.limiterContended),
    metadataFailed: sum(perCpu, (cpu) => cpu.metadataFailed),
    txUnsteeredPackets: sum(perCpu, (cpu) => cpu.txUnsteeredPackets),
    movesInOrder: sum(perCpu, (cpu) => cpu.movesInOrder),
    movesForced: sum(perCpu, (cpu) => cpu.movesForced),
    movesRisked: sum(perCpu, (cpu) => cpu.movesRisked),
    heldPackets: sum(perCpu, (cpu) => cpu.heldPackets),
  };
}

export interface LatencySummary {
  /** Packets that were timed: a sample. */
  count: bigint;
  meanNs: number | null;
  p50Ns: number | null;
  p90Ns: number | null;
  p99Ns: number | null;
  p999Ns: number | null;
}

/** Upper edge of a latency bucket in ns; see struct vnic_latency. */
export function latencyBucketEdgeNs(bucket: number): number {
  const sub = VnicLimits.latencySubBuckets;
  if (bucket < sub) return bucket;
  const octave = Math.floor(bucket / sub) - 1;
  return (sub + (bucket % sub) + 1) * 2 ** octave - 1;
}

export interface LatencyCells {
  count: bigint;
  sumNs: bigint;
  /** By the index of struct vnic_latency. */
  buckets: BigUint64Array;
}

/** Of all CPUs together. */
export function readLatencyCells({ latency }: Pick<CounterCells, 'latency'>): LatencyCells {
  return sumLatencyCells(latency, { from: 0, count: latency.length });
}

/** Of `count` elements of the array, from the element `from` on. */
export function sumLatencyCells(
  array: MappedArray<VnicLatency>,
  { from, count }: { from: number; count: number },
): LatencyCells {
  const cells: LatencyCells = { count: 0n, sumNs: 0n, buckets: new BigUint64Array(VnicLimits.latencyBuckets) };
  for (let index = from; index < from + count; index++) addLatencyCell(cells, array, index);
  return cells;
}

/** Round-trip times of TCP, by row: of no AZ, then of each AZ. */
export function readRttCells(rtts: MappedArray<VnicLatency>): LatencyCells[] {
  return Array.from({ length: rtts.length }, (_, row) => sumLatencyCells(rtts, { from: row, count: 1 }));
}

function addLatencyCell(cells: LatencyCells, array: MappedArray<VnicLatency>, index: number): void {
  if (array.u64(index, VnicLatency.offsets.count) === 0n) return;
  const { count, sumNs, bucket } = array.read(index);
  const { buckets } = cells;
  cells.count += count;
  cells.sumNs += sumNs;
  for (const [at, value] of bucket.entries()) buckets[at] = BigInt.asUintN(64, buckets[at]! + value);
}

/** Quantiles are upper edges of their buckets: at most 1/16 too high. */
export function summarizeLatency({ count, sumNs, buckets }: LatencyCells): LatencySummary {
  const quantile = (share: number): number | null => {
    if (count === 0n) return null;
    const wanted = BigInt(Math.ceil(Number(count) * share));
    let seen = 0n;
    for (let index = 0; index < buckets.length; index++) {
      seen += buckets[index] ?? 0n;
      if (seen >= wanted) return latencyBucketEdgeNs(index);
    }
    return latencyBucketEdgeNs(buckets.length - 1);
  };
  return {
    count,
    meanNs: count === 0n ? null : Number(sumNs) / Number(count),
    p50Ns: quantile(0.5),
    p90Ns: quantile(0.9),
    p99Ns: quantile(0.99),
    p999Ns: quantile(0.999),
  };
}

/** From XDP entry to the target CPU. */
export function readLatency(cells: Pick<CounterCells, 'latency'>): LatencySummary {
  return summarizeLatency(readLatencyCells(cells));
}
