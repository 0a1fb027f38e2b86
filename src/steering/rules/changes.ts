// SPDX-License-Identifier: Apache-2.0
/** What changes from one rule set to the next, by what the rules mean. */
import { type Rule, sameRule } from './model.ts';

export interface RuleChanges {
  /** Rule ids. */
  added: number[];
  changed: number[];
  removed: number[];
  unchanged: number;
}

/** Ids are unique in each of the two sets. */
export function compareRules(before: readonly Rule[], after: readonly Rule[]): RuleChanges {
  const changes: RuleChanges = { added: [], changed: [], removed: [], unchanged: 0 };
  const earlier = alignRules(before, after);
  const kept = new Uint8Array(before.length);
  for (const [position, rule] of after.entries()) {
    const known = earlier[position]!;
    if (known < 0) {
      changes.added.push(rule.id);
      continue;
    }
    kept[known] = 1;
    if (sameRule(before[known]!, rule)) changes.unchanged++;
    else changes.changed.push(rule.id);
  }
  for (const [position, rule] of before.entries()) {
    if (kept[position] === 0) changes.removed.push(rule.id);
  }
  return changes;
}

/**
 * `after`, with the object of `before` for each rule that means the same: what has been worked out for that object
 * need not be worked out again.
 */
export function reuseRules(before: readonly Rule[], after: readonly Rule[]): Rule[] {
  const earlier = alignRules(before, after);
  return after.map((rule, position) => {
    const known = before[earlier[position]!];
    return known !== undefined && sameRule(known, rule) ? known : rule;
  });
}

/**
 * The position in `before` of each rule of `after`, by id; -1 where there is none. Two sets mostly stand in the same
 * order but for a few rules, so only what lies between their common beginning and end is looked up.
 */
export function alignRules(before: readonly Rule[], after: readonly Rule[]): Int32Array {
  const { start, end, shift } = commonEnds(before, after, (a, b) => a.id === b.id);
  const earlier = new Int32Array(after.length);
  for (let position = 0; position < start; position++) earlier[position] = position;
  for (let position = end; position < after.length; position++) earlier[position] = position + shift;
  const positions = new Map<number, number>();
  for (let position = start; position < end + shift; position++) positions.set(before[position]!.id, position);
  for (let position = start; position < end; position++) {
    earlier[position] = positions.get(after[position]!.id) ?? -1;
  }
  return earlier;
}

/** What two lists do not have in common: `start` to `end` of the later, `start` to `end + shift` of the earlier one. */
export interface CommonEnds {
  readonly start: number;
  readonly end: number;
  readonly shift: number;
}

export function commonEnds<T>(before: readonly T[], after: readonly T[], same: (a: T, b: T) => boolean): CommonEnds {
  const shift = before.length - after.length;
  const shorter = Math.min(before.length, after.length);
  let start = 0;
  while (start < shorter && same(before[start]!, after[start]!)) start++;
  let end = after.length;
  while (end > start && end + shift > start && same(before[end + shift - 1]!, after[end - 1]!)) end--;
  return { start, end, shift };
}
