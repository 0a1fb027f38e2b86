// SPDX-License-Identifier: Apache-2.0
/**
 * Shaping needs a queueing discipline that keeps to departure times (fq). Where a device has none, a limit that asks for
 * it polices instead, at the same rate and burst.
 */
import type { Rule } from './model.ts';
import { namedRules } from './shapes.ts';
import type { RuleWarning } from './warnings.ts';

export function needsShaping(rules: readonly Rule[]): boolean {
  return rules.some((rule) => rule.limit?.mode === 'shape');
}

/** The same rules with every limit policing. */
export function policed(rules: readonly Rule[]): Rule[] {
  return rules.map((rule) =>
    rule.limit?.mode === 'shape' ? { ...rule, limit: { ...rule.limit, mode: 'police' } } : rule,
  );
}

export function shapingWarnings(rules: readonly Rule[], device: string): RuleWarning[] {
  const ruleIds = rules.filter((rule) => rule.limit?.mode === 'shape').map((rule) => rule.id);
  if (ruleIds.length === 0) return [];
  const message =
    `${device} has no fq queueing discipline, so packets over the limit of ${namedRules(ruleIds)} are dropped, not delayed ` +
    `(tc qdisc replace dev ${device} root fq, then apply the rules again)`;
  return [{ code: 'policed_not_shaped', ruleIds, message }];
}
