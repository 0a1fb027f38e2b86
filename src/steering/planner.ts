// SPDX-License-Identifier: Apache-2.0
/**
 * Which queue each bucket has. Pure: no I/O, no clock, and the same input gives the same output.
 *
 * Each bucket has a home, the queue it has while every queue is usable. plan() sends a bucket home when it can and
 * otherwise disturbs as little as it can:
 * - queues were only lost: exactly the buckets on lost queues move;
 * - queues came back, were lent or taken back, or have other weights: buckets go home, and displaced buckets move only
 *   where a queue holds more than its quota.
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
  hasNewUse,
  type QueueSpec,
  queueWeights,
  type RowUse,
  rowUses,
  type Topology,
  usableMask,
} from './queues.ts';
import { homeQuotas, interleave, rowQuotas } from './quotas.ts';
import { bucketCount, maxQueues, noQueue, queueMask, rowCount, type SteeringTable } from './table.ts';

export interface PlanInput extends Topology {
  /** Of planHome(), as rebalance() left it, or with buckets lent (lendHome). */
  home: SteeringTable;
  /** The table in use. */
  current: SteeringTable;
  /** What each row may use; absent: its AZ's usable queues, by their weights. */
  uses?: readonly RowUse[];
  /** What each row might use in the current table; absent: the same, but for queues that are lost or came back. */
  formerUses?: readonly RowUse[];
}

export interface PlanResult {
  table: SteeringTable;
  /** By row, then by bucket. */
  moves: PlanMove[];
  summary: PlanSummary;
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

/** Whether every bucket is on a queue that its row may use, and at home if it can be. */
function isSettled(isEligible: Uint8Array, home: Uint16Array, current: Uint16Array): boolean {
  for (let bucket = 0; bucket < bucketCount; bucket++) {
    const queue = current[bucket]!;
    if (isEligible[queue] !== 1 || (queue !== home[bucket] && isEligible[home[bucket]!] === 1)) return false;
  }
  return true;
}

/** The row itself where nothing moves. */
function planRow({ eligible, weights }: RowUse, home: Uint16Array, current: Uint16Array, gained: boolean): Uint16Array {
  const next = new Uint16Array(bucketCount).fill(noQueue);
  if (eligible.length === 0) return next;
  const isEligible = new Uint8Array(maxQueues);
  for (const queue of eligible) isEligible[queue] = 1;
  if (!gained && isSettled(isEligible, home, current)) return current;

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

/** What plan() gives, without the moves. Rows in which nothing moves are those of the current table. */
export function planTable(input: PlanInput): SteeringTable {
  const { queues, home, current, formerUses } = input;
  checkTopology(input);
  const usableQueues = usableMask(queues);
  const rows = (input.uses ?? rowUses(input)).map((use, row) => {
    const cameBack = (queueMask(use.eligible) & ~current.usableQueues) !== 0n;
    const gained = cameBack || (formerUses !== undefined && hasNewUse(formerUses[row]!, use, usableQueues));
    return planRow(use, home.rows[row]!, current.rows[row]!, gained);
  });
  return { rows, usableQueues };
}

/**
 * The next table for the queues that are usable now, and the moves that lead to it. Whether queues were lost or came
 * back is read from current.usableQueues. With no usable queue every bucket is noQueue. Throws invalid_config.
 */
export function plan(input: PlanInput): PlanResult {
  const { queues, azs, home, current, formerUses } = input;
  const table = planTable(input);
  const uses = input.uses ?? rowUses(input);
  const former = formerUses === undefined ? {} : { formerUses };
  return { table, ...summarise({ queues, azs, uses, ...former, home, before: current, after: table }) };
}
