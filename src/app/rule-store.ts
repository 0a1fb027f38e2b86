// SPDX-License-Identifier: Apache-2.0
/**
 * Rule sets in the kernel. The set that is not live is filled, then one store of the generation makes it live: its low bit
 * names the set. Packets meet the old set or the new one, never a mixture.
 */

import {
  VnicControl,
  VnicDirection,
  VnicLimits,
  VnicRuleAction,
  VnicRuleEntry,
  VnicRuleKey,
} from '../maps/generated/abi.ts';
import { BpfMapType } from '../maps/generated/host.ts';
import { BpfMap, HashMap } from '../maps/index.ts';
import type { AzConfig } from '../steering/azs.ts';
import { type CompiledRules, compileRules } from '../steering/rules/compile.ts';
import type { Rule } from '../steering/rules/model.ts';
import { policed } from '../steering/rules/shaping.ts';
import { assignSlots } from '../steering/rules/slots.ts';
import type { Dataplane } from './dataplane.ts';

/** Part of an LPM key that every look-up matches: the set and its padding (bits). */
const SET_BITS = 32;

export interface PreparedRules {
  generation: number;
  slots: ReadonlyMap<number, number>;
  /** Slots that pass from a rule that goes to a new one: their state still counts for the old rule until the switch. */
  reusedSlots: readonly number[];
}

export class RuleStore {
  readonly #dataplane: Dataplane;

  constructor(dataplane: Dataplane) {
    this.#dataplane = dataplane;
  }

  /** Generation in effect, 0 before the first. */
  generation(): number {
    return this.#dataplane.control.read(0).ruleGeneration;
  }

  /** Slot of each rule id in the live set. */
  slots(): Map<number, number> {
    const { ruleActions, maxRules } = this.#dataplane;
    const generation = this.generation();
    const slots = new Map<number, number>();
    if (generation === 0) return slots;
    const first = (generation % VnicLimits.ruleSets) * maxRules;
    for (let slot = 0; slot < maxRules; slot++) {
      const id = ruleActions.u32(first + slot, VnicRuleAction.offsets.ruleId);
      if (id !== 0) slots.set(id, slot);
    }
    return slots;
  }

  /**
   * Compiles and loads a whole set beside the live one. Throws `too_many_shapes`, `capacity_exceeded`, `invalid_rule`;
   * what is live stays as it is.
   */
  prepare(rules: readonly Rule[], azs: readonly AzConfig[], canShape = true): PreparedRules {
    const { maxRules } = this.#dataplane;
    const generation = nextGeneration(this.generation());
    const set = generation % VnicLimits.ruleSets;
    const previous = this.slots();
    const slots = assignSlots(previous, rules, maxRules);
    const compiled = compileRules(canShape ? rules : policed(rules), slots);

    this.#loadEntries(set, compiled);
    this.#loadShapes(set, compiled);
    this.#loadActions(set, compiled);
    this.#loadPrefixes(set, azs);
    const inUse = new Set(previous.values());
    const newSlots = [...slots].filter(([id, slot]) => previous.get(id) !== slot).map(([, slot]) => slot);
    for (const slot of newSlots) {
      if (!inUse.has(slot)) this.#dataplane.ruleStates.write(slot, {});
    }
    return { generation, slots, reusedSlots: newSlots.filter((slot) => inUse.has(slot)) };
  }

  /** The switch: one store. */
  activate({ generation, reusedSlots }: PreparedRules): void {
    this.#dataplane.control.storeU32(0, VnicControl.offsets.ruleGeneration, generation);
    for (const slot of reusedSlots) this.#dataplane.ruleStates.write(slot, {});
  }

  #loadEntries(set: number, compiled: CompiledRules): void {
    const { native, rules } = this.#dataplane;
    using inner = BpfMap.create(native, {
      type: BpfMapType.hash,
      name: 'vnic_rule_set',
      keySize: VnicRuleKey.size,
      valueSize: VnicRuleEntry.size,
      maxEntries: Math.max(compiled.entryCount, 1),
    });
    if (compiled.entryCount > 0) {
      new HashMap(native, inner, VnicRuleKey, VnicRuleEntry).setMany({
        keys: compiled.keys,
        values: compiled.values,
        count: compiled.entryCount,
      });
    }
    rules.set(set, inner);
  }

  #loadShapes(set: number, compiled: CompiledRules): void {
    const { shapes, shapeCounts } = this.#dataplane;
    [compiled.ingress, compiled.egress].forEach((list, direction) => {
      const index = set * VnicDirection.directions + direction;
      list.forEach((shape, position) => {
        shapes.write(index * VnicLimits.maxShapes + position, shape);
      });
      shapeCounts.write(index, { count: list.length });
    });
  }

  #loadActions(set: number, compiled: CompiledRules): void {
    const { ruleActions, maxRules } = this.#dataplane;
    for (let slot = 0; slot < maxRules; slot++) ruleActions.bytes(set * maxRules + slot).fill(0);
    compiled.actionSlots.forEach((slot, index) => {
      const at = index * VnicRuleAction.size;
      ruleActions.bytes(set * maxRules + slot).set(compiled.actionValues.subarray(at, at + VnicRuleAction.size));
    });
  }

  #loadPrefixes(set: number, azs: readonly AzConfig[]): void {
    const { azPrefixes } = this.#dataplane;
    const earlier = Array.from(azPrefixes.entries(), ([key]) => key).filter((key) => key.set === set);
    for (const key of earlier) azPrefixes.delete(key);
    azs.forEach((az, index) => {
      for (const { address, bits } of az.prefixes) {
        azPrefixes.set({ prefixlen: SET_BITS + bits, set, addr: { bytes: address } }, { az: index + 1 });
      }
    });
  }
}

/** Generations count up and wrap past 0, which means "no rules". The low bit always changes. */
export function nextGeneration(generation: number): number {
  return generation >= 0xffff_ffff ? 2 : generation + 1;
}
