// SPDX-License-Identifier: Apache-2.0
/** Counters of the live rules, a bounded number of them by themselves and the others summed. No system call. */
import { VnicLimits, VnicRuleAction, VnicVerdictFlag } from '../../maps/generated/abi.ts';
import type { MappedArray } from '../../maps/index.ts';
import { type RuleCounterMaps, RuleCounters, RuleGroup } from '../rule-counters.ts';

/** `limit`: dropped because it was over the limit. `shadow`: would have been dropped, and passed. */
export const ruleVerdicts = ['pass', 'drop', 'limit', 'shadow'] as const;
export type RuleVerdict = (typeof ruleVerdicts)[number];

/** Stands for all rules that are not listed by themselves. */
export const OTHER_RULES = 'other';

export interface RuleCount {
  /** Rule id, or `other`. */
  rule: string;
  verdict: RuleVerdict;
  packets: bigint;
  bytes: bigint;
}

export interface RuleMaps extends RuleCounterMaps {
  ruleActions: MappedArray<VnicRuleAction>;
}

const LIMIT = VnicVerdictFlag.limitRule | VnicVerdictFlag.limitFlow;

/** What the rule does to what it does not pass; null: it passes everything. */
function refusalOf(flags: number): Exclude<RuleVerdict, 'pass'> | null {
  if ((flags & (VnicVerdictFlag.drop | LIMIT)) === 0) return null;
  if ((flags & VnicVerdictFlag.shadow) !== 0) return 'shadow';
  return (flags & VnicVerdictFlag.drop) !== 0 ? 'drop' : 'limit';
}

/**
 * A packet is counted first and its drop after it, so between the two it looks passed. What was said to have passed is not
 * taken back, or the counter would seem to have started anew.
 */
export class PassedCount {
  #passed = 0n;
  #all = 0n;

  /** Of all that matched, what was not refused. */
  next(all: bigint, refused: bigint): bigint {
    const passed = all > refused ? all - refused : 0n;
    if (all < this.#all || passed > this.#passed) this.#passed = passed;
    this.#all = all;
    return this.#passed;
  }
}

interface ListedRule {
  id: number;
  slot: number;
  refusal: Exclude<RuleVerdict, 'pass'> | null;
  passedPackets: PassedCount;
  passedBytes: PassedCount;
}

interface UnlistedRules {
  refusal: Exclude<RuleVerdict, 'pass'> | null;
  rules: RuleGroup;
}

const { ruleId: RULE_ID, flags: FLAGS } = VnicRuleAction.offsets;

/** Which rules there are is looked up once for each rule set; after that only counters are read. */
export class RuleReader {
  readonly #maps: RuleMaps;
  readonly #maxListed: number;
  #generation = 0;
  #listed: ListedRule[] = [];
  #unlisted: UnlistedRules[] = [];
  #otherPackets = new PassedCount();
  #otherBytes = new PassedCount();
  /** Counters of all rules of the set: no more is mapped than that, and it stays until the next set. */
  #counters: RuleCounters | null = null;

  /** @param maxListed rules that get series of their own: those with the lowest ids */
  constructor(maps: RuleMaps, maxListed: number) {
    this.#maps = maps;
    this.#maxListed = maxListed;
  }

  /** @param generation of the live rule set, as the control word has it */
  read(generation: number): RuleCount[] {
    if (generation !== this.#generation) this.#lookUp(generation);
    const counters = this.#counters;
    if (counters === null) return [];
    const counts = this.#listed.flatMap((rule) => {
      const { id, slot } = rule;
      // Refused ones first: a packet that comes in between counts as passed, not as minus one.
      const refusedPackets = counters.sum(slot, id, 'droppedPackets');
      const refusedBytes = counters.sum(slot, id, 'droppedBytes');
      const packets = rule.passedPackets.next(counters.sum(slot, id, 'packets'), refusedPackets);
      const bytes = rule.passedBytes.next(counters.sum(slot, id, 'bytes'), refusedBytes);
      const name = String(id);
      const passed: RuleCount = { rule: name, verdict: 'pass', packets, bytes };
      // A rule that passes everything now may have dropped before it was changed.
      const refusal = rule.refusal ?? (refusedPackets > 0n ? 'drop' : null);
      if (refusal === null) return [passed];
      return [passed, { rule: name, verdict: refusal, packets: refusedPackets, bytes: refusedBytes }];
    });
    return this.#unlisted.length === 0 ? counts : [...counts, ...this.#others(counters)];
  }

  #others(counters: RuleCounters): RuleCount[] {
    let packets = 0n;
    let bytes = 0n;
    let allRefusedPackets = 0n;
    let allRefusedBytes = 0n;
    const refused = new Map<RuleVerdict, RuleCount>();
    for (const { refusal, rules } of this.#unlisted) {
      const total = counters.total(rules);
      const { droppedPackets: refusedPackets, droppedBytes: refusedBytes } = total;
      packets = BigInt.asUintN(64, packets + total.packets);
      bytes = BigInt.asUintN(64, bytes + total.bytes);
      allRefusedPackets += refusedPackets;
      allRefusedBytes += refusedBytes;
      if (refusal === null && refusedPackets === 0n) continue;
      const verdict = refusal ?? 'drop';
      const sum = refused.get(verdict);
      refused.set(verdict, {
        rule: OTHER_RULES,
        verdict,
        packets: refusedPackets + (sum?.packets ?? 0n),
        bytes: refusedBytes + (sum?.bytes ?? 0n),
      });
    }
    const passed: RuleCount = {
      rule: OTHER_RULES,
      verdict: 'pass',
      packets: this.#otherPackets.next(packets, allRefusedPackets),
      bytes: this.#otherBytes.next(bytes, allRefusedBytes),
    };
    return [passed, ...refused.values()];
  }

  #lookUp(generation: number): void {
    const { ruleActions, ruleStates } = this.#maps;
    const capacity = ruleStates.length;
    const first = (generation % VnicLimits.ruleSets) * capacity;
    using actions = ruleActions.window(first, generation === 0 ? 0 : capacity);
    const { u32: ids, bytes: flags } = actions;
    const unpack = (rule: number) => ({
      slot: rule % VnicLimits.maxRuleSlots,
      id: Math.floor(rule / VnicLimits.maxRuleSlots),
    });
    const refusal = (slot: number) => refusalOf(flags[slot * ruleActions.stride + FLAGS]!);
    // Id and slot in one double, which is exact: 31 and 20 bits. Numbers are sorted far faster than objects.
    const found = new Float64Array(capacity);
    let count = 0;
    let last = -1;
    for (let slot = 0; slot < capacity && generation !== 0; slot++) {
      const id = ids[(slot * ruleActions.stride + RULE_ID) / 4]!;
      if (id === 0) continue;
      found[count++] = id * VnicLimits.maxRuleSlots + slot;
      last = slot;
    }
    const rules = found.subarray(0, count).sort();
    this.#listed = Array.from(rules.subarray(0, this.#maxListed), (rule) => {
      const { slot, id } = unpack(rule);
      return { id, slot, refusal: refusal(slot), passedPackets: new PassedCount(), passedBytes: new PassedCount() };
    });
    const others = Map.groupBy(rules.subarray(this.#maxListed), (rule) => refusal(rule % VnicLimits.maxRuleSlots));
    this.#unlisted = Array.from(others, ([kind, group]) => ({
      refusal: kind,
      rules: new RuleGroup(group.map(unpack)),
    }));
    this.#otherPackets = new PassedCount();
    this.#otherBytes = new PassedCount();
    this.#generation = generation;
    this.#counters?.[Symbol.dispose]();
    this.#counters = last < 0 ? null : new RuleCounters(this.#maps, last + 1);
  }
}
