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
  const known = Int32Array.from(rules, ({ id }) => previous.get(id) ?? -1);
  const slots = chooseSlots(known, previous.values(), capacity);
  return new Map(rules.map(({ id }, position) => [id, slots[position]!]));
}

/**
 * As assignSlots, by position: `known` has the slot of each rule, -1 for a new one, and `inUse` the slots of all rules
 * before.
 */
export function chooseSlots(known: Int32Array, inUse: Iterable<number>, capacity: number): Uint32Array<ArrayBuffer> {
  // The last value of the slot field means "no rule".
  const usable = Math.min(capacity, VnicNone.noRule);
  if (known.length > usable) {
    throw new VnicError('capacity_exceeded', `${known.length} rules, but the dataplane holds ${usable}`, {
      remedy: 'Remove rules, or attach with a larger rule capacity.',
      details: { rules: known.length, capacity: usable },
    });
  }
  const taken = new Uint8Array(usable);
  for (const slot of known) if (slot >= 0 && slot < usable) taken[slot] = 1;
  const left: number[] = [];
  for (const slot of inUse) {
    if (slot >= usable || taken[slot] === 1) continue;
    taken[slot] = 1;
    left.push(slot);
  }
  left.sort((a, b) => a - b);
  const slots = new Uint32Array(known.length);
  let next = 0;
  let nextLeft = 0;
  for (const [position, slot] of known.entries()) {
    if (slot >= 0 && slot < usable) {
      slots[position] = slot;
      continue;
    }
    while (next < usable && taken[next] === 1) next++;
    slots[position] = next < usable ? next++ : left[nextLeft++]!;
  }
  return slots;
}
