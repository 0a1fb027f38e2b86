// SPDX-License-Identifier: Apache-2.0
/** Changing a device's rules: from the set that is there to the next one, in one transaction, and what that changed. */
import { isDeepStrictEqual } from 'node:util';
import { VnicError } from '../errors.ts';
import { type DeviceId, deviceText } from '../loader/pins.ts';
import { formatRule } from '../steering/rules/format.ts';
import type { Rule } from '../steering/rules/model.ts';
import type { RuleWarning } from '../steering/rules/validate.ts';
import type { Context } from './context.ts';
import { count } from './output.ts';

export interface RuleChanges {
  /** Rule ids. */
  added: number[];
  changed: number[];
  removed: number[];
  unchanged: number;
}

export function compareRules(before: readonly Rule[], after: readonly Rule[]): RuleChanges {
  const old = new Map(before.map((rule) => [rule.id, rule]));
  const changes: RuleChanges = { added: [], changed: [], removed: [], unchanged: 0 };
  const kept = new Set<number>();
  for (const rule of after) {
    const earlier = old.get(rule.id);
    kept.add(rule.id);
    if (earlier === undefined) changes.added.push(rule.id);
    else if (isDeepStrictEqual(formatRule(earlier), formatRule(rule))) changes.unchanged++;
    else changes.changed.push(rule.id);
  }
  changes.removed = before.map(({ id }) => id).filter((id) => !kept.has(id));
  return changes;
}

export interface ChangeReport extends RuleChanges {
  device: string;
  warnings: RuleWarning[];
  /** False with --dry-run. */
  performed: boolean;
}

/** `next` makes the next set from the present one; nothing is done if it is the same. */
export function changeRules(
  context: Context,
  device: DeviceId,
  next: (rules: readonly Rule[]) => readonly Rule[],
  dryRun = context.dryRun,
): ChangeReport {
  return context.controller.withDevice(device, (attached) => {
    const rules = next(attached.config.rules);
    const changes = compareRules(attached.config.rules, rules);
    const isSame = changes.added.length + changes.changed.length + changes.removed.length === 0;
    const warnings = dryRun || isSame ? attached.checkRules(rules) : attached.replaceRules(rules);
    return { device: deviceText(device), ...changes, warnings, performed: !dryRun };
  });
}

export async function printChanges(context: Context, report: ChangeReport): Promise<void> {
  for (const { message } of report.warnings) context.warn(message);
  await context.print(report, () => changesText(report));
}

const MAX_IDS = 20;

function changesText(report: ChangeReport): string {
  const list = (ids: readonly number[]): string =>
    `${ids.slice(0, MAX_IDS).join(', ')}${ids.length > MAX_IDS ? ` and ${ids.length - MAX_IDS} more` : ''}`;
  const parts = (['added', 'changed', 'removed'] as const).flatMap((kind) => {
    const ids = report[kind];
    return ids.length === 0
      ? []
      : [`${count(ids.length, 'rule')} ${report.performed ? '' : 'would be '}${kind} (${list(ids)})`];
  });
  return `${report.device}: ${parts.length === 0 ? 'nothing to change' : parts.join(', ')}`;
}

export function unknownRule(id: number, rules: readonly Rule[]): VnicError {
  const known = rules.slice(0, MAX_IDS).map((rule) => rule.id);
  return new VnicError('not_found', `There is no rule ${id}.`, {
    remedy:
      rules.length === 0
        ? 'There are no rules yet.'
        : `Known rules: ${known.join(', ')}${rules.length > MAX_IDS ? ' …' : ''}`,
    details: { rule: id },
  });
}

/** Throws `not_found`. */
export function findRule(id: number, rules: readonly Rule[]): Rule {
  const rule = rules.find((candidate) => candidate.id === id);
  if (rule === undefined) throw unknownRule(id, rules);
  return rule;
}
