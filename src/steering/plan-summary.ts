// SPDX-License-Identifier: Apache-2.0
/** What a plan changes, found by comparing the tables and not by asking the planner what it meant to do. */
import { bucketShares, hasNewUse, type RowUse, rowUses, type Topology } from './queues.ts';
import { bucketCount, countBuckets, noQueue, queueMask, queuesOf, type SteeringTable } from './table.ts';

export interface PlanMove {
  row: number;
  bucket: number;
  /** Queue, or noQueue. */
  from: number;
  to: number;
  /** forced: its queue was lost. planned: a recovery, a loan or a better balance asks it; the old queue may be drained first. */
  kind: 'forced' | 'planned';
}

export interface QueueShare {
  queue: number;
  /** Buckets. */
  before: number;
  after: number;
  /** Buckets by weight, not rounded; 0 if the row may not use the queue. */
  share: number;
}

export interface RowSummary {
  row: number;
  queues: QueueShare[];
  /** Largest count over share among the queues that the row uses; 1 is perfect, 0 without any queue. */
  maxOverMean: number;
}

export interface PlanSummary {
  /** Buckets, over all rows: forced + planned. */
  moved: number;
  forced: number;
  planned: number;
  /** Moved although their queue is usable and nothing in their row came back or was lent. Always 0; counted to show it. */
  collateral: number;
  maxOverMean: number;
  rows: RowSummary[];
}

export interface Comparison extends Topology {
  /** What each row may use; absent: its AZ's usable queues, by their weights. */
  uses?: readonly RowUse[];
  /** As in PlanInput. */
  formerUses?: readonly RowUse[];
  /** Where each bucket should be. */
  home: SteeringTable;
  before: SteeringTable;
  after: SteeringTable;
}

/**
 * Whether a row has a reason for planned moves: a queue it may use came back, it may use others or use them otherwise, or a
 * bucket could go where it should be.
 */
function asksPlannedMoves({ home, before, after, formerUses }: Comparison, use: RowUse, row: number): boolean {
  const { eligible } = use;
  if ((queueMask(eligible) & ~before.usableQueues) !== 0n) return true;
  if (formerUses !== undefined && hasNewUse(formerUses[row]!, use, after.usableQueues)) return true;
  const homes = home.rows[row]!;
  const isEligible = new Set(eligible);
  return before.rows[row]!.some((queue, bucket) => queue !== homes[bucket] && isEligible.has(homes[bucket]!));
}

export function summarise(comparison: Comparison): { moves: PlanMove[]; summary: PlanSummary } {
  const { queues, before, after } = comparison;
  const uses = comparison.uses ?? rowUses(comparison);
  const moves: PlanMove[] = [];
  const summary: PlanSummary = { moved: 0, forced: 0, planned: 0, collateral: 0, maxOverMean: 0, rows: [] };
  const usable = new Set(queuesOf(after.usableQueues));
  for (const [row, use] of uses.entries()) {
    const from = before.rows[row]!;
    const to = after.rows[row]!;
    let planned = 0;
    for (let bucket = 0; bucket < bucketCount; bucket++) {
      if (from[bucket] === to[bucket]) continue;
      const lost = from[bucket] !== noQueue && !usable.has(from[bucket]!);
      if (!lost) planned++;
      moves.push({ row, bucket, from: from[bucket]!, to: to[bucket]!, kind: lost ? 'forced' : 'planned' });
    }
    summary.planned += planned;
    if (planned > 0 && !asksPlannedMoves(comparison, use, row)) summary.collateral += planned;

    const counts = { before: countBuckets(from), after: countBuckets(to) };
    const shares = bucketShares(use.weights, use.eligible);
    const rowSummary: RowSummary = { row, queues: [], maxOverMean: 0 };
    for (const { index } of queues) {
      const queue = {
        queue: index,
        before: counts.before[index]!,
        after: counts.after[index]!,
        share: shares[index]!,
      };
      rowSummary.queues.push(queue);
      if (queue.share > 0) rowSummary.maxOverMean = Math.max(rowSummary.maxOverMean, queue.after / queue.share);
    }
    summary.maxOverMean = Math.max(summary.maxOverMean, rowSummary.maxOverMean);
    summary.rows.push(rowSummary);
  }
  summary.moved = moves.length;
  summary.forced = moves.length - summary.planned;
  return { moves, summary };
}
