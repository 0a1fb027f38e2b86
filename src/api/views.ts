// SPDX-License-Identifier: Apache-2.0
/** Domain objects as the API shows them. */
import type { AttachedDevice } from '../app/attached-device.ts';
import type { AzStatus, RuleCounters } from '../app/device-status.ts';
import { formatAz } from '../config/azs.ts';
import type { PlanSummary } from '../steering/plan-summary.ts';
import type { PlanResult } from '../steering/planner.ts';
import { formatRule } from '../steering/rules/format.ts';
import type { Rule } from '../steering/rules/model.ts';
import type { RuleInput } from '../steering/rules/schema.ts';
import { noQueue } from '../steering/table.ts';

export interface RuleView extends RuleInput {
  counters: RuleCounters;
}

export function ruleView(device: AttachedDevice, rule: Rule): RuleView {
  return { ...formatRule(rule), counters: device.countersOf(rule.id) };
}

export function azView({ config, state, cause, since, evidence }: AzStatus) {
  const { queues: _, weight: __, prefixes = [], ...rest } = formatAz(config);
  return { ...rest, queues: [...config.queues], weight: config.weight, prefixes, state, cause, since, evidence };
}

export function moveCounts({ moved, forced, planned, collateral, maxOverMean }: PlanSummary) {
  return { moved, forced, planned, collateral, maxOverMean };
}

/** Buckets of each queue before and after, in all rows that the queue appears in. */
export function queuePlans({ summary }: PlanResult): { queue: number; before: number; after: number }[] {
  const plans = new Map<number, { queue: number; before: number; after: number }>();
  for (const { queue, before, after } of summary.rows.flatMap((row) => row.queues)) {
    const known = plans.get(queue) ?? { queue, before: 0, after: 0 };
    plans.set(queue, { queue, before: known.before + before, after: known.after + after });
  }
  return [...plans.values()];
}

/** Moves summed up by where from and where to. */
export function movesByQueue({ moves }: PlanResult): { from: number | null; to: number | null; buckets: number }[] {
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
