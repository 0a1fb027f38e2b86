// SPDX-License-Identifier: Apache-2.0
/**
 * A steering table: for each row (0: no AZ known, n: AZ n) the queue of each bucket.
 * The sizes are those of enum vnic_limits and enum vnic_none in bpf/vnic_abi.h.
 */

export const bucketCount = 4096;
export const rowCount = 9;
export const maxQueues = 64;
export const maxAzs = 8;
/** A bucket without a queue: its packets pass to the stack unsteered. */
export const noQueue = 0xffff;

export interface SteeringTable {
  /** rowCount rows of bucketCount queue indices. */
  readonly rows: readonly Uint16Array[];
  /** Bit mask of the queues that were usable when the table was made. */
  readonly usableQueues: bigint;
}

/** How many buckets each queue has in a row; index: queue. Buckets without a queue are not counted. */
export function countBuckets(row: Uint16Array): Uint32Array {
  const counts = new Uint32Array(maxQueues);
  for (const queue of row) {
    if (queue < maxQueues) counts[queue]!++;
  }
  return counts;
}

export function copyTable(table: SteeringTable): { rows: Uint16Array[]; usableQueues: bigint } {
  return { rows: table.rows.map((row) => row.slice()), usableQueues: table.usableQueues };
}

/** Bit mask of the queues given by index. */
export function queueMask(queues: Iterable<number>): bigint {
  let mask = 0n;
  for (const queue of queues) mask |= 1n << BigInt(queue);
  return mask;
}

/** Whether a bit mask has the queue. */
export function hasQueue(mask: bigint, queue: number): boolean {
  return ((mask >> BigInt(queue)) & 1n) === 1n;
}

/** Queue indices of a bit mask, ascending. */
export function queuesOf(mask: bigint): number[] {
  const queues: number[] = [];
  for (let queue = 0; queue < maxQueues; queue++) {
    if (hasQueue(mask, queue)) queues.push(queue);
  }
  return queues;
}
