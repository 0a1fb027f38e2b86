// SPDX-License-Identifier: Apache-2.0
/**
 * Slots of the action and state arrays. A rule id keeps its slot for as long as the rule exists, so its counters and
 * limiter survive a change of the rule set.
 */
import { VnicError } from '../../errors.ts';
import { VnicNone } from '../../maps/generated/abi.ts';
import type { Rule } from './model.ts';

/**
 * Slot by rule id. New rules take slots that `previous` does not use; slots that removed rules leave are taken last,
 * because flows may still carry verdicts that name them. Throws capacity_exceeded.
 */
export function assignSlots(
  previous: ReadonlyMap<number, number>,
  rules: readonly Pick<Rule, 'id'>[],
  capacity: number,
): Map<number, number> {
  // The last value of the slot field means "no rule".
  const usable = Math.min(capacity, VnicNone.noRule);
  if (rules.length > usable) {
    throw new VnicError('capacity_exceeded', `${rules.length} rules, but the dataplane holds ${usable}`, {
      remedy: 'Remove rules, or attach with a larger rule capacity.',
      details: { rules: rules.length, capacity: usable },
    });
  }
  const taken = new Set<number>();
  const slots = new Map<number, number>();
  for (const { id } of rules) {
    const slot = previous.get(id);
    if (slot === undefined || slot >= usable) continue;
    slots.set(id, slot);
    taken.add(slot);
  }
  const left = [...previous.values()].filter((slot) => slot < usable && !taken.has(slot)).sort((a, b) => a - b);
  for (const slot of left) taken.add(slot);
  let next = 0;
  let nextLeft = 0;
  for (const { id } of rules) {
    if (slots.has(id)) continue;
    while (taken.has(next)) next++;
    slots.set(id, next < usable ? next++ : left[nextLeft++]!);
  }
  return slots;
}
