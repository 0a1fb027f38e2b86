// SPDX-License-Identifier: Apache-2.0
/** Domain objects as the API shows them. */
import type { AttachedDevice } from '../app/attached-device.ts';
import type { AzStatus, RuleCounters } from '../app/device-status.ts';
import type { Preview } from '../app/load-steering.ts';
import type { HeldNow } from '../app/tuning/device-tuning.ts';
import { formatAz } from '../config/azs.ts';
import type { PlanMove, PlanSummary } from '../steering/plan-summary.ts';
import { formatRule } from '../steering/rules/format.ts';
import type { Rule } from '../steering/rules/model.ts';
import type { RuleInput } from '../steering/rules/schema.ts';
import { noQueue } from '../steering/table.ts';
import {
  type LatencyCells,
  type LatencySummary,
  latencyBucketEdgeNs,
  readRttCells,
  summarizeLatency,
} from '../telemetry/counters.ts';

export interface RuleView extends RuleInput {
  counters: RuleCounters;
}

export function ruleView(device: AttachedDevice, rule: Rule): RuleView {
  return { ...formatRule(rule), counters: device.countersOf(rule.id) };
}

/** Who holds a setting, without the values that each may give it. */
export function heldViews(held: readonly HeldNow[]) {
  return held.map(({ name, before, now, holds }) => ({ name, before, now, by: holds.map(({ by }) => by) }));
}

export function azView(az: AzStatus & { rtt?: LatencySummary | null }) {
  const { config, state, cause, since, evidence, watch, rtt = null } = az;
  const { queues: _, weight: __, prefixes = [], ...rest } = formatAz(config);
  const { weight } = config;
  return { ...rest, queues: [...config.queues], weight, prefixes, state, cause, since, evidence, health: watch, rtt };
}

/** All AZs of a device, with the round-trip times to them. */
export function azViews(device: AttachedDevice) {
  const rows = readRttCells(device.dataplane.rtts);
  return device.azs().map((az, index) => {
    const cells = rows[index + 1];
    return azView({ ...az, rtt: cells === undefined || cells.count === 0n ? null : summarizeLatency(cells) });
  });
}

export function moveCounts({ moved, forced, planned, collateral, maxOverMean }: PlanSummary) {
  return { moved, forced, planned, collateral, maxOverMean };
}

/** What failing or recovering an AZ would do. */
export function planView(device: Pick<AttachedDevice, 'azName'>, preview: Preview, recover: boolean) {
  const { plan, buckets, flows, queues, breaches, expectedDurationMs, loadWindowMs } = preview;
  return {
    action: recover ? ('recover' as const) : ('fail' as const),
    ...moveCounts(plan.summary),
    onFailed: buckets.onFailed,
    flows,
    queues: queues.map(({ queue, az, bucketsBefore, bucketsAfter, loadBeforePps, loadAfterPps }) => ({
      queue,
      az: az === null ? null : device.azName(az),
      before: bucketsBefore,
      after: bucketsAfter,
      loadBeforePps,
      loadAfterPps,
    })),
    loadWindowMs,
    breaches,
    expectedDurationMs,
    moves: movesByQueue(plan.moves),
  };
}

/** Moves summed up by where from and where to. */
export function movesByQueue(
  moves: readonly PlanMove[],
): { from: number | null; to: number | null; buckets: number }[] {
  const counts = new Map<string, { from: number | null; to: number | null; buckets: number }>();
  const orNull = (queue: number): number | null => (queue === noQueue ? null : queue);
  for (const { from, to } of moves) {
    const key = `${from} ${to}`;
    const known = counts.get(key) ?? { from: orNull(from), to: orNull(to), buckets: 0 };
    known.buckets++;
    counts.set(key, known);
  }
  return [...counts.values()];
}

/** A histogram with its quantiles; buckets that hold nothing are left out. */
export function histogramView(cells: LatencyCells) {
  const buckets = [...cells.buckets.entries()].flatMap(([bucket, count]) =>
    count === 0n ? [] : [{ upToNs: latencyBucketEdgeNs(bucket), count }],
  );
  return { ...summarizeLatency(cells), buckets };
}
