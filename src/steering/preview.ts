// SPDX-License-Identifier: Apache-2.0
/** What a plan would do to buckets, flows and queues, before it is done. Pure. */
import type { BucketLoads } from './loads.ts';
import type { PlanMove } from './plan-summary.ts';
import type { PlanResult } from './planner.ts';
import type { QueueSpec } from './queues.ts';
import { copyTable, countBuckets, maxQueues, type SteeringTable } from './table.ts';

export interface PreviewInput {
  plan: PlanResult;
  queues: readonly QueueSpec[];
  /** The AZ that fails or comes back; absent: none in particular. */
  az?: number;
  /** Of the table before the plan; null: not measured. */
  loads: BucketLoads | null;
  /** By row, then by bucket; null: not counted. */
  flowsByBucket: readonly Uint32Array[] | null;
  /** What one queue can take, packets/s; null: not known. */
  capacityPps: number | null;
  /** After so long a planned move is made although its order is not sure. */
  moveDeadlineMs: number;
}

export interface PreviewQueue {
  queue: number;
  /** AZ index, or null. */
  az: number | null;
  bucketsBefore: number;
  bucketsAfter: number;
  /** Of what the table steers; null: not measured. Traffic of a failed AZ counts as if it went on. */
  loadBeforePps: number | null;
  loadAfterPps: number | null;
}

export interface PlanPreview {
  buckets: {
    /** On queues of the AZ before, in all rows; without an AZ, on queues that the plan takes out of use. */
    onFailed: number;
    moved: number;
    collateral: number;
    forced: number;
    planned: number;
  };
  /** Null: not counted. */
  flows: { known: number; moved: number } | null;
  queues: PreviewQueue[];
  /** Queues that would be given more than they can take; empty where capacity or load is not known. */
  breaches: { queue: number; loadPps: number; capacityPps: number }[];
  /** See expectedDuration(). */
  expectedDurationMs: { commit: number; settled: number | null };
}

/** A switch is one store: the bound that it is measured against, in ms. */
const commitMs = 0.1;

/** A flow leaves its queue in order behind a packet that was delivered so long ago, in ms (bpf/move.h). */
const pauseMs = 1;

function tableBefore({ table, moves }: PlanResult): SteeringTable {
  const { rows, usableQueues } = copyTable(table);
  for (const { row, bucket, from } of moves) rows[row]![bucket] = from;
  return { rows, usableQueues };
}

function sumByQueue(table: SteeringTable, values: readonly ArrayLike<number>[]): Float64Array {
  const sums = new Float64Array(maxQueues);
  table.rows.forEach((row, r) => {
    const ofRow = values[r];
    if (ofRow === undefined) return;
    row.forEach((queue, bucket) => {
      if (queue < maxQueues) sums[queue]! += ofRow[bucket] ?? 0;
    });
  });
  return sums;
}

function bucketsByQueue(table: SteeringTable): Uint32Array {
  const sums = new Uint32Array(maxQueues);
  for (const row of table.rows) {
    countBuckets(row).forEach((count, queue) => {
      sums[queue]! += count;
    });
  }
  return sums;
}

/**
 * How long until a bucket's flows are on the new queue, in ms. A flow moves with the first packet that follows the one
 * before it by more than the pause. Packets are taken to come at random, all of a bucket's flows with the same rate r:
 * such a gap is met after exp(r * pause) packets on average, so after exp(r * pause) / r.
 */
function expectedMoveMs(packetsPerSecond: number, flows: number): number {
  const perMs = packetsPerSecond / Math.max(flows, 1) / 1000;
  return perMs === 0 ? 0 : Math.exp(perMs * pauseMs) / perMs;
}

/**
 * Forced moves are made by the switch. Planned ones are through when the slowest bucket's are, and at the deadline at
 * the latest; a bucket without traffic is through at once. Null: there are planned moves and no loads are known.
 */
function settledMs({ plan, loads, moveDeadlineMs }: PreviewInput): number | null {
  const planned = plan.moves.filter((move) => move.kind === 'planned');
  if (planned.length === 0) return commitMs;
  if (loads === null) return null;
  const slowest = planned.reduce((longest, { row, bucket }) => {
    const rate = loads.packetsPerSecond[row]?.[bucket] ?? 0;
    return Math.max(longest, expectedMoveMs(rate, loads.flows[row]?.[bucket] ?? 0));
  }, 0);
  return commitMs + Math.min(slowest, moveDeadlineMs);
}

function countFlows(flowsByBucket: readonly Uint32Array[], moves: readonly PlanMove[]) {
  const known = flowsByBucket.reduce((sum, row) => row.reduce((all, flows) => all + flows, sum), 0);
  const moved = moves.reduce((sum, { row, bucket }) => sum + (flowsByBucket[row]?.[bucket] ?? 0), 0);
  return { known, moved };
}

export function previewPlan(input: PreviewInput): PlanPreview {
  const { plan, queues, az, loads, flowsByBucket, capacityPps } = input;
  const { moved, forced, planned, collateral } = plan.summary;
  const before = tableBefore(plan);
  const buckets = { before: bucketsByQueue(before), after: bucketsByQueue(plan.table) };
  const pps = loads && {
    before: sumByQueue(before, loads.packetsPerSecond),
    after: sumByQueue(plan.table, loads.packetsPerSecond),
  };
  const rows = [...queues]
    .sort((a, b) => a.index - b.index)
    .map(
      ({ index, az: owner }): PreviewQueue => ({
        queue: index,
        az: owner,
        bucketsBefore: buckets.before[index]!,
        bucketsAfter: buckets.after[index]!,
        loadBeforePps: pps ? pps.before[index]! : null,
        loadAfterPps: pps ? pps.after[index]! : null,
      }),
    );
  const ofAz = rows.filter((queue) => queue.az === az).reduce((sum, queue) => sum + queue.bucketsBefore, 0);
  return {
    buckets: { onFailed: az === undefined ? forced : ofAz, moved, collateral, forced, planned },
    flows: flowsByBucket && countFlows(flowsByBucket, plan.moves),
    queues: rows,
    breaches: rows.flatMap(({ queue, loadAfterPps }) =>
      capacityPps !== null && loadAfterPps !== null && loadAfterPps > capacityPps
        ? [{ queue, loadPps: loadAfterPps, capacityPps }]
        : [],
    ),
    expectedDurationMs: { commit: commitMs, settled: settledMs(input) },
  };
}
