// SPDX-License-Identifier: Apache-2.0
/** Counters of the live rules, a bounded number of them by themselves and the others summed. No system call. */
import { VnicLimits, VnicRuleAction, VnicRuleState, VnicVerdictFlag } from '../../maps/generated/abi.ts';
import type { MappedArray } from '../../maps/index.ts';

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

export interface RuleMaps {
  ruleActions: MappedArray<VnicRuleAction>;
  ruleStates: MappedArray<VnicRuleState>;
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
  slots: Uint32Array;
}

const { ruleId: RULE_ID, flags: FLAGS } = VnicRuleAction.offsets;
const { offsets } = VnicRuleState;
const WORD = {
  packets: offsets.packets / 8,
  bytes: offsets.bytes / 8,
  refusedPackets: offsets.droppedPackets / 8,
  refusedBytes: offsets.droppedBytes / 8,
} as const;

/** Which rules there are is looked up once for each rule set; after that only states are read. */
export class RuleReader {
  readonly #maps: RuleMaps;
  readonly #maxListed: number;
  #generation = 0;
  #listed: ListedRule[] = [];
  #unlisted: UnlistedRules[] = [];
  #otherPackets = new PassedCount();
  #otherBytes = new PassedCount();

  /** @param maxListed rules that get series of their own: those with the lowest ids */
  constructor(maps: RuleMaps, maxListed: number) {
    this.#maps = maps;
    this.#maxListed = maxListed;
  }

  /** @param generation of the live rule set, as the control word has it */
  read(generation: number): RuleCount[] {
    if (generation !== this.#generation) this.#lookUp(generation);
    const words = this.#maps.ruleStates.asBigUint64();
    const stride = this.#maps.ruleStates.stride / 8;
    const counts = this.#listed.flatMap((rule) => {
      const at = rule.slot * stride;
      // Refused ones first: a packet that comes in between counts as passed, not as minus one.
      const refusedPackets = words[at + WORD.refusedPackets]!;
      const refusedBytes = words[at + WORD.refusedBytes]!;
      const packets = rule.passedPackets.next(words[at + WORD.packets]!, refusedPackets);
      const bytes = rule.passedBytes.next(words[at + WORD.bytes]!, refusedBytes);
      const name = String(rule.id);
      const passed: RuleCount = { rule: name, verdict: 'pass', packets, bytes };
      // A rule that passes everything now may have dropped before it was changed.
      const refusal = rule.refusal ?? (refusedPackets > 0n ? 'drop' : null);
      if (refusal === null) return [passed];
      return [passed, { rule: name, verdict: refusal, packets: refusedPackets, bytes: refusedBytes }];
    });
    return this.#unlisted.length === 0 ? counts : [...counts, ...this.#others(words, stride)];
  }

  #others(words: BigUint64Array, stride: number): RuleCount[] {
    let packets = 0n;
    let bytes = 0n;
    let allRefusedPackets = 0n;
    let allRefusedBytes = 0n;
    const refused = new Map<RuleVerdict, RuleCount>();
    for (const { refusal, slots } of this.#unlisted) {
      let refusedPackets = 0n;
      let refusedBytes = 0n;
      for (const slot of slots) {
        const at = slot * stride;
        refusedPackets = BigInt.asUintN(64, refusedPackets + words[at + WORD.refusedPackets]!);
        refusedBytes = BigInt.asUintN(64, refusedBytes + words[at + WORD.refusedBytes]!);
        packets = BigInt.asUintN(64, packets + words[at + WORD.packets]!);
        bytes = BigInt.asUintN(64, bytes + words[at + WORD.bytes]!);
      }
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
    const { buffer } = ruleActions.asBigUint64();
    const ids = new Uint32Array(buffer);
    const flags = new Uint8Array(buffer);
    const refusal = (slot: number) => refusalOf(flags[(first + slot) * ruleActions.stride + FLAGS]!);
    // Id and slot in one double, which is exact: 31 and 20 bits. Numbers are sorted far faster than objects.
    const found = new Float64Array(capacity);
    let count = 0;
    for (let slot = 0; slot < capacity && generation !== 0; slot++) {
      const id = ids[((first + slot) * ruleActions.stride + RULE_ID) / 4]!;
      if (id !== 0) found[count++] = id * VnicLimits.maxRuleSlots + slot;
    }
    const rules = found.subarray(0, count).sort();
    this.#listed = Array.from(rules.subarray(0, this.#maxListed), (rule) => {
      const slot = rule % VnicLimits.maxRuleSlots;
      const id = Math.floor(rule / VnicLimits.maxRuleSlots);
      return { id, slot, refusal: refusal(slot), passedPackets: new PassedCount(), passedBytes: new PassedCount() };
    });
    const others = Map.groupBy(rules.subarray(this.#maxListed), (rule) => refusal(rule % VnicLimits.maxRuleSlots));
    this.#unlisted = Array.from(others, ([kind, group]) => ({
      refusal: kind,
      slots: Uint32Array.from(group, (rule) => rule % VnicLimits.maxRuleSlots),
    }));
    this.#otherPackets = new PassedCount();
    this.#otherBytes = new PassedCount();
    this.#generation = generation;
  }
}
