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
import { alignRules } from '../steering/rules/changes.ts';
import { type CompiledEntries, compileEntries, ruleAction } from '../steering/rules/compile.ts';
import type { Rule } from '../steering/rules/model.ts';
import { chooseSlots } from '../steering/rules/slots.ts';
import { buildTupleSpace } from '../steering/rules/tuple-space.ts';
import type { RulePlan } from '../steering/rules/validate.ts';
import { clearRuleCounters, forgetRule } from '../telemetry/rule-counters.ts';
import type { Dataplane } from './dataplane.ts';

/** Part of an LPM key that every look-up matches: the set and its padding (bits). */
const SET_BITS = 32;

export interface PreparedRules {
  readonly generation: number;
  readonly slots: ReadonlyMap<number, number>;
  /** Slots that pass from a rule that goes to a new one: their state still counts for the old rule until the switch. */
  readonly reusedSlots: readonly number[];
  /** What the set holds, for the next one to be loaded by what differs. */
  readonly loaded: LoadedRules;
}

interface LoadedRules {
  readonly rules: readonly Rule[];
  /** By position. */
  readonly slots: Uint32Array;
  readonly entries: CompiledEntries;
  /** By slot; undefined: the slot is free. */
  readonly ruleAt: readonly (Rule | undefined)[];
  readonly canShape: boolean;
}

export class RuleStore {
  readonly #dataplane: Dataplane;
  /** The live set as this store activated it, good for as long as its generation is live. */
  #live: PreparedRules | undefined;
  /** The slots of a generation as they were read. */
  #read: { generation: number; slots: ReadonlyMap<number, number> } | undefined;
  /** The rules of a generation as they were counted, and when. */
  #counted: { generation: number; atMs: number; count: number } | undefined;

  constructor(dataplane: Dataplane) {
    this.#dataplane = dataplane;
  }

  /** Generation in effect, 0 before the first. */
  generation(): number {
    return this.#dataplane.control.read(0).ruleGeneration;
  }

  /** Slot of each rule id in the live set, as the kernel has it. */
  slots(): Map<number, number> {
    const slots = new Map<number, number>();
    this.#visitLive((id, slot) => slots.set(id, slot));
    return slots;
  }

  /**
   * Rules of the live set, as the kernel has it. They are counted slot by slot.
   * @param maxAgeMs how old a count of the same set may be
   */
  count(maxAgeMs = 0): number {
    const [generation, atMs] = [this.generation(), performance.now()];
    const known = this.#counted;
    if (known?.generation === generation && atMs - known.atMs < maxAgeMs) return known.count;
    let count = 0;
    this.#visitLive(() => count++);
    this.#counted = { generation, atMs, count };
    return count;
  }

  #visitLive(visit: (id: number, slot: number) => void): void {
    const { ruleActions, maxRules } = this.#dataplane;
    const generation = this.generation();
    if (generation === 0) return;
    using actions = ruleActions.window((generation % VnicLimits.ruleSets) * maxRules, maxRules);
    const stride = ruleActions.stride / 4;
    const idWord = VnicRuleAction.offsets.ruleId / 4;
    for (let slot = 0; slot < maxRules; slot++) {
      const id = actions.u32[slot * stride + idWord]!;
      if (id !== 0) visit(id, slot);
    }
  }

  /** A rule's slot in the live set. The kernel is read once for each generation. */
  slotOf(id: number): number | undefined {
    return this.#liveSlots().get(id);
  }

  #liveSlots(): ReadonlyMap<number, number> {
    const generation = this.generation();
    if (this.#live?.generation === generation) return this.#live.slots;
    if (this.#read?.generation !== generation) this.#read = { generation, slots: this.slots() };
    return this.#read.slots;
  }

  /** Forgets what it knows of the live set, so that the next one is loaded whole: for who doubts what the kernel has. */
  forget(): void {
    this.#live = undefined;
    this.#read = undefined;
  }

  /**
   * Loads a whole set beside the live one. A plan (see planRules) is loaded as it is; rules alone are laid out first.
   * Throws `too_many_shapes`, `capacity_exceeded`, `invalid_rule`; what is live stays as it is.
   */
  prepare(rules: readonly Rule[] | RulePlan, azs: readonly AzConfig[], canShape = true): PreparedRules {
    const space = 'space' in rules ? rules.space : buildTupleSpace(rules);
    const current = this.generation();
    const generation = nextGeneration(current);
    const live = this.#live?.generation === current ? this.#live : undefined;
    const { maxRules } = this.#dataplane;
    const known = live === undefined ? this.#knownSlots(space.rules) : slotsBefore(live.loaded, space.rules);
    const inUse = live?.loaded.slots ?? Uint32Array.from(this.#liveSlots().values());
    const slots = chooseSlots(known, inUse, maxRules);
    const entries = compileEntries(space, slots);
    const ruleAt = Array.from<Rule | undefined>({ length: maxRules });
    for (const [position, rule] of space.rules.entries()) ruleAt[slots[position]!] = rule;
    const loaded = { rules: space.rules, slots, entries, ruleAt, canShape };

    const set = generation % VnicLimits.ruleSets;
    if (live === undefined || !sameEntries(live.loaded.entries, entries)) this.#loadEntries(set, entries);
    else this.#shareEntries(set, current % VnicLimits.ruleSets);
    this.#loadShapes(set, entries);
    this.#loadActions(set, loaded, live);
    this.#loadPrefixes(set, azs);
    return new Prepared(generation, this.#resetNewSlots(known, loaded, inUse), loaded);
  }

  /** The switch: one store. */
  activate(prepared: PreparedRules): void {
    this.#dataplane.control.storeU32(0, VnicControl.offsets.ruleGeneration, prepared.generation);
    forEachRun(prepared.reusedSlots, (first, count) => this.#dataplane.ruleStates.span(first, count).fill(0));
    this.#live = prepared;
    this.#read = undefined;
  }

  /** The live slots as the kernel has them, by position; -1: the rule is new. */
  #knownSlots(rules: readonly Rule[]): Int32Array {
    const live = this.#liveSlots();
    return Int32Array.from(rules, ({ id }) => live.get(id) ?? -1);
  }

  /** Slots that new rules take start from zero: those that nobody uses now, the others (which are returned) later. */
  #resetNewSlots(known: Int32Array, { slots, ruleAt }: LoadedRules, inUse: Uint32Array): number[] {
    const newSlots: number[] = [];
    for (const [position, slot] of slots.entries()) if (known[position] !== slot) newSlots.push(slot);
    if (newSlots.length === 0) return newSlots;
    const isInUse = new Uint8Array(this.#dataplane.maxRules);
    for (const slot of inUse) isInUse[slot] = 1;
    forEachRun(
      newSlots.filter((slot) => isInUse[slot] === 0),
      (first, count) => clearRuleCounters(this.#dataplane, first, count),
    );
    const reused = newSlots.filter((slot) => isInUse[slot] === 1);
    for (const slot of reused) forgetRule(this.#dataplane, slot, ruleAt[slot]!.id);
    return reused;
  }

  #loadEntries(set: number, entries: CompiledEntries): void {
    const { native, rules } = this.#dataplane;
    using inner = BpfMap.create(native, {
      type: BpfMapType.hash,
      name: 'vnic_rule_set',
      keySize: VnicRuleKey.size,
      valueSize: VnicRuleEntry.size,
      maxEntries: Math.max(entries.entryCount, 1),
    });
    if (entries.entryCount > 0) {
      new HashMap(native, inner, VnicRuleKey, VnicRuleEntry).setMany({
        keys: entries.keys,
        values: entries.values,
        count: entries.entryCount,
      });
    }
    rules.set(set, inner);
  }

  /** Entries are never changed once they are loaded, so two sets may stand on the same map. */
  #shareEntries(set: number, liveSet: number): void {
    const { native, rules } = this.#dataplane;
    using inner = BpfMap.fromId(native, rules.innerId(liveSet)!);
    rules.set(set, inner);
  }

  #loadShapes(set: number, entries: CompiledEntries): void {
    const { shapes, shapeCounts } = this.#dataplane;
    [entries.ingress, entries.egress].forEach((list, direction) => {
      const index = set * VnicDirection.directions + direction;
      list.forEach((shape, position) => {
        shapes.write(index * VnicLimits.maxShapes + position, shape);
      });
      shapeCounts.write(index, { count: list.length });
    });
  }

  /** Starts from the live set's actions if it is known what they are, and writes those that differ. */
  #loadActions(set: number, { ruleAt, canShape }: LoadedRules, live: PreparedRules | undefined): void {
    const { ruleActions, maxRules } = this.#dataplane;
    const bytes = ruleActions.span(set * maxRules, maxRules);
    let known: LoadedRules['ruleAt'] = [];
    if (live?.loaded.canShape === canShape) {
      known = live.loaded.ruleAt;
      bytes.set(ruleActions.span((live.generation % VnicLimits.ruleSets) * maxRules, maxRules));
    } else {
      bytes.fill(0);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let slot = 0; slot < maxRules; slot++) {
      const rule = ruleAt[slot];
      if (rule === known[slot]) continue;
      const at = slot * ruleActions.stride;
      if (rule === undefined) bytes.fill(0, at, at + VnicRuleAction.size);
      else VnicRuleAction.write(view, at, ruleAction(rule, canShape));
    }
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

class Prepared implements PreparedRules {
  readonly generation: number;
  readonly reusedSlots: readonly number[];
  readonly loaded: LoadedRules;
  #slots: ReadonlyMap<number, number> | undefined;

  constructor(generation: number, reusedSlots: readonly number[], loaded: LoadedRules) {
    this.generation = generation;
    this.reusedSlots = reusedSlots;
    this.loaded = loaded;
  }

  /** Made when it is asked for: nothing that loads or changes a set needs it. */
  get slots(): ReadonlyMap<number, number> {
    const { rules, slots } = this.loaded;
    this.#slots ??= new Map(rules.map(({ id }, position) => [id, slots[position]!]));
    return this.#slots;
  }
}

/** The slots that the rules have in a set, by position; -1: the rule is new. */
function slotsBefore({ rules: before, slots }: LoadedRules, rules: readonly Rule[]): Int32Array {
  return alignRules(before, rules).map((position) => (position < 0 ? -1 : slots[position]!));
}

function sameEntries(a: CompiledEntries, b: CompiledEntries): boolean {
  return Buffer.compare(a.keys, b.keys) === 0 && Buffer.compare(a.values, b.values) === 0;
}

/** Generations count up and wrap past 0, which means "no rules". The low bit always changes. */
export function nextGeneration(generation: number): number {
  return generation >= 0xffff_ffff ? 2 : generation + 1;
}

/** Runs of slots that follow each other. */
function forEachRun(slots: readonly number[], visit: (first: number, count: number) => void): void {
  const ascending = Uint32Array.from(slots).sort();
  for (let start = 0; start < ascending.length; ) {
    const first = ascending[start]!;
    let end = start + 1;
    while (end < ascending.length && ascending[end]! === first + end - start) end++;
    visit(first, end - start);
    start = end;
  }
}
