// SPDX-License-Identifier: Apache-2.0
/**
 * Which queue each bucket has. Pure: no I/O, no clock, and the same input gives the same output.
 *
 * Each bucket has a home, the queue it has while every queue is usable. plan() sends a bucket home when it can and
 * otherwise disturbs as little as it can:
 * - queues were only lost: exactly the buckets on lost queues move;
 * - queues came back: buckets go home, and displaced buckets move only where a queue holds more than its quota.
 *
 * Balance in a row, with the tables that planHome() and plan() make (share: the queue's part of the buckets by weight):
 * - queues of equal weight: a queue's count differs from its share by less than one bucket;
 * - any weights: no queue ever has one bucket or more above its share. A queue can be more than one bucket below it,
 *   because giving it more would take buckets from queues that were not lost. What all queues lack together is what
 *   the others have above their shares, so less than one bucket for each other queue.
 */
import { type PlanMove, type PlanSummary, summarise } from './plan-summary.ts';
import {
  bucketShares,
  checkTopology,
  eligibleQueues,
  type QueueSpec,
  queueWeights,
  type Topology,
  usableMask,
} from './queues.ts';
import { bucketCount, maxQueues, noQueue, queueMask, rowCount, type SteeringTable } from './table.ts';

export interface PlanInput extends Topology {
  /** Of planHome(), or as rebalance() left it. */
  home: SteeringTable;
  /** The table in use. */
  current: SteeringTable;
}

export interface PlanResult {
  table: SteeringTable;
  /** By row, then by bucket. */
  moves: PlanMove[];
  summary: PlanSummary;
}

/** Absorbs rounding where a share is a whole number. */
const roundingSlack = 1e-9;

/**
 * Whole numbers of buckets that add up to total: not below what is held, and otherwise as close to the shares as
 * that allows. The result is that of giving the buckets one by one to the largest shortfall, reached from above: find
 * the lowest number of buckets by which all may fall short, then give what is left.
 */
function fillQuotas(shares: readonly number[], held: readonly number[], preferred: readonly number[], total: number) {
  let shortBy = 0;
  let quotas: number[];
  let left: number;
  do {
    quotas = shares.map((share, i) => Math.max(held[i]!, Math.floor(share + roundingSlack) - shortBy));
    left = total - quotas.reduce((sum, quota) => sum + quota, 0);
    shortBy++;
  } while (left < 0);
  const shortfall = shares.map((share, i) => share - quotas[i]!);
  const order = shares.map((_, i) => i);
  order.sort((a, b) => shortfall[b]! - shortfall[a]! || preferred[b]! - preferred[a]! || a - b);
  for (const i of order.slice(0, left)) quotas[i]!++;
  return quotas;
}

/** Quota of each queue of a row, index: queue. Held buckets stay; a tie goes to the queue that already has more. */
function rowQuotas(eligible: readonly number[], shares: Float64Array, held: Uint32Array, preferred: Uint32Array) {
  const pick = (values: Float64Array | Uint32Array): number[] => eligible.map((queue) => values[queue]!);
  const quotas = new Uint32Array(maxQueues);
  fillQuotas(pick(shares), pick(held), pick(preferred), bucketCount).forEach((quota, i) => {
    quotas[eligible[i]!] = quota;
  });
  return quotas;
}

/** Quotas of the home table: each AZ's total is within one bucket of its share, and so is each queue. */
function homeQuotas(eligible: readonly number[], shares: Float64Array, azOf: Map<number, number | null>): Uint32Array {
  const quotas = new Uint32Array(maxQueues);
  const groups = [...Map.groupBy(eligible, (queue) => azOf.get(queue) ?? 0).values()];
  const none = groups.map(() => 0);
  const groupShares = groups.map((group) => group.reduce((sum, queue) => sum + shares[queue]!, 0));
  const groupQuotas = fillQuotas(groupShares, none, none, bucketCount);
  groups.forEach((group, i) => {
    const even = Math.floor(groupQuotas[i]! / group.length);
    const rest = groupQuotas[i]! % group.length;
    group.forEach((queue, position) => {
      quotas[queue] = even + (position < rest ? 1 : 0);
    });
  });
  return quotas;
}

/**
 * Queues in the order in which buckets get them: each queue as often as its count says, evenly spread over the whole.
 * The n-th of a queue's c places is at (n + 1/2) / c of the whole; a counting sort puts all places in order.
 */
function interleave(counts: Uint32Array): Uint16Array {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const slotOf = (n: number, count: number): number => Math.floor(((2 * n + 1) * total) / (2 * count));
  const nextInSlot = new Uint32Array(total + 1);
  for (const count of counts) {
    for (let n = 0; n < count; n++) nextInSlot[slotOf(n, count) + 1]!++;
  }
  for (let slot = 0; slot < total; slot++) nextInSlot[slot + 1]! += nextInSlot[slot]!;
  const order = new Uint16Array(total);
  counts.forEach((count, queue) => {
    for (let n = 0; n < count; n++) order[nextInSlot[slotOf(n, count)]!++] = queue;
  });
  return order;
}

/** The table with every queue usable, whatever QueueSpec.usable says. Throws invalid_config. */
export function planHome(queues: readonly QueueSpec[], azs: Topology['azs']): SteeringTable {
  checkTopology({ queues, azs });
  const all = queues.map((queue) => ({ ...queue, usable: true }));
  const azOf = new Map(queues.map((queue) => [queue.index, queue.az]));
  const weights = queueWeights({ queues, azs });
  const rows = Array.from({ length: rowCount }, (_, row) => {
    const eligible = eligibleQueues(all, row);
    return interleave(homeQuotas(eligible, bucketShares(weights, eligible), azOf));
  });
  return { rows, usableQueues: usableMask(all) };
}

function planRow(
  eligible: readonly number[],
  weights: Float64Array,
  home: Uint16Array,
  current: Uint16Array,
  gained: boolean,
): Uint16Array {
  const next = new Uint16Array(bucketCount).fill(noQueue);
  if (eligible.length === 0) return next;
  const isEligible = new Uint8Array(maxQueues);
  for (const queue of eligible) isEligible[queue] = 1;

  const held = new Uint32Array(maxQueues);
  let returning = false;
  for (let bucket = 0; bucket < bucketCount; bucket++) {
    const queue = home[bucket]!;
    if (isEligible[queue] !== 1) continue;
    next[bucket] = queue;
    held[queue]!++;
    if (current[bucket] !== queue) returning = true;
  }

  // Displaced buckets stay where they are if only losses happened; otherwise within the quota.
  const preferred = held.slice();
  for (let bucket = 0; bucket < bucketCount; bucket++) {
    const queue = current[bucket]!;
    if (next[bucket] === noQueue && isEligible[queue] === 1) preferred[queue]!++;
  }
  const onlyLosses = !gained && !returning;
  const shares = bucketShares(weights, eligible);
  const quotas = rowQuotas(eligible, shares, onlyLosses ? preferred : held, preferred);
  const homeless: number[] = [];
  for (let bucket = 0; bucket < bucketCount; bucket++) {
    if (next[bucket] !== noQueue) continue;
    const queue = current[bucket]!;
    if (isEligible[queue] === 1 && held[queue]! < quotas[queue]!) {
      next[bucket] = queue;
      held[queue]!++;
    } else {
      homeless.push(bucket);
    }
  }

  const order = interleave(quotas.map((quota, queue) => quota - held[queue]!));
  homeless.forEach((bucket, i) => {
    next[bucket] = order[i]!;
  });
  return next;
}

/**
 * The next table for the queues that are usable now, and the moves that lead to it. Whether queues were lost or came
 * back is read from current.usableQueues. With no usable queue every bucket is noQueue. Throws invalid_config.
 */
export function plan(input: PlanInput): PlanResult {
  const { queues, azs, home, current } = input;
  checkTopology({ queues, azs });
  const weights = queueWeights({ queues, azs });
  const rows = Array.from({ length: rowCount }, (_, row) => {
    const eligible = eligibleQueues(queues, row);
    const gained = (queueMask(eligible) & ~current.usableQueues) !== 0n;
    return planRow(eligible, weights, home.rows[row]!, current.rows[row]!, gained);
  });
  const table = { rows, usableQueues: usableMask(queues) };
  return { table, ...summarise({ queues, azs, home, before: current, after: table }) };
}
