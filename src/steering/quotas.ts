// SPDX-License-Identifier: Apache-2.0
/** Whole numbers of buckets for shares that are not whole, and the order in which queues get them. */
import { bucketCount, maxQueues } from './table.ts';

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
export function rowQuotas(
  eligible: readonly number[],
  shares: Float64Array,
  held: Uint32Array,
  preferred: Uint32Array,
): Uint32Array {
  const pick = (values: Float64Array | Uint32Array): number[] => eligible.map((queue) => values[queue]!);
  const quotas = new Uint32Array(maxQueues);
  fillQuotas(pick(shares), pick(held), pick(preferred), bucketCount).forEach((quota, i) => {
    quotas[eligible[i]!] = quota;
  });
  return quotas;
}

/** Quotas with nothing held: each AZ's total is within one bucket of its share, and so is each queue. */
export function homeQuotas(
  eligible: readonly number[],
  shares: Float64Array,
  azOf: ReadonlyMap<number, number | null>,
): Uint32Array {
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
 * Indices of counts, each as often as its count says, evenly spread over the whole: the order in which buckets are given.
 * The n-th of an index's c places is at (n + 1/2) / c of the whole; a counting sort puts all places in order.
 */
export function interleave(counts: Uint32Array): Uint16Array {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const slotOf = (n: number, count: number): number => Math.floor(((2 * n + 1) * total) / (2 * count));
  const nextInSlot = new Uint32Array(total + 1);
  for (const count of counts) {
    for (let n = 0; n < count; n++) nextInSlot[slotOf(n, count) + 1]!++;
  }
  for (let slot = 0; slot < total; slot++) nextInSlot[slot + 1]! += nextInSlot[slot]!;
  const order = new Uint16Array(total);
  counts.forEach((count, index) => {
    for (let n = 0; n < count; n++) order[nextInSlot[slotOf(n, count)]!++] = index;
  });
  return order;
}
