// SPDX-License-Identifier: Apache-2.0
/**
 * Counters of rules: of the first slots in cells that each CPU writes for itself, of the others in the state that all CPUs
 * share. Reads mapped memory: no system call.
 */
import { VnicLimits, VnicRuleCell, VnicRuleState } from '../maps/generated/abi.ts';
import type { ArrayWindow, MappedArray } from '../maps/index.ts';

export interface RuleCounterMaps {
  ruleStates: MappedArray<VnicRuleState>;
  ruleCells: MappedArray<VnicRuleCell>;
}

const fields = ['packets', 'bytes', 'droppedPackets', 'droppedBytes'] as const;
export type RuleCounterField = (typeof fields)[number];
type Four = [number, number, number, number];

const wordsOf = (offsets: Record<RuleCounterField, number>): Record<RuleCounterField, number> => ({
  packets: offsets.packets / 8,
  bytes: offsets.bytes / 8,
  droppedPackets: offsets.droppedPackets / 8,
  droppedBytes: offsets.droppedBytes / 8,
});

const STATE_WORD = wordsOf(VnicRuleState.offsets);
const CELL_WORD = wordsOf(VnicRuleCell.offsets);
const CELL_ID = VnicRuleCell.offsets.ruleId / 4;

/** What was dropped is read before what matched: a packet that comes in between counts as passed. */
function sumSlots(
  { u32, u64 }: ArrayWindow,
  stride: number,
  word: Record<RuleCounterField, number>,
  slots: Uint32Array,
): Record<RuleCounterField, bigint> {
  const [packetsAt, bytesAt, droppedPacketsAt, droppedBytesAt] = fields.map((field) => word[field]) as Four;
  let packets = 0n;
  let bytes = 0n;
  let droppedPackets = 0n;
  let droppedBytes = 0n;
  for (const slot of slots) {
    const at = slot * stride;
    // Most rules of a large set meet no packet.
    const inHalves = 2 * (at + packetsAt);
    if ((u32[inHalves]! | u32[inHalves + 1]!) === 0) continue;
    // A u64 that wraps, which is what the cells are, is added without making a bigint for each step.
    droppedPackets = BigInt.asUintN(64, droppedPackets + u64[at + droppedPacketsAt]!);
    droppedBytes = BigInt.asUintN(64, droppedBytes + u64[at + droppedBytesAt]!);
    packets = BigInt.asUintN(64, packets + u64[at + packetsAt]!);
    bytes = BigInt.asUintN(64, bytes + u64[at + bytesAt]!);
  }
  return { packets, bytes, droppedPackets, droppedBytes };
}

/** Rules whose counters are added up. */
export class RuleGroup {
  /** Slots with cells, and whose they are. */
  readonly celled: Uint32Array;
  readonly ids: Uint32Array;
  /** Slots without cells. */
  readonly shared: Uint32Array;

  constructor(rules: readonly { slot: number; id: number }[]) {
    const celled = rules.filter(({ slot }) => slot < VnicLimits.ruleCells);
    this.celled = Uint32Array.from(celled, ({ slot }) => slot);
    this.ids = Uint32Array.from(celled, ({ id }) => id);
    this.shared = Uint32Array.from(rules.filter(({ slot }) => slot >= VnicLimits.ruleCells).map(({ slot }) => slot));
  }
}

/** The counters of the slots from 0 on, in place. No more is mapped than they need. */
export class RuleCounters implements Disposable {
  readonly #states: ArrayWindow;
  /** One for each CPU. */
  readonly #cells: readonly ArrayWindow[];
  /** Slots whose cells of a CPU count. */
  readonly #met = new Uint32Array(VnicLimits.ruleCells);
  readonly #stateWords: number;
  readonly #cellWords: number;

  constructor({ ruleStates, ruleCells }: RuleCounterMaps, slots: number) {
    this.#states = ruleStates.window(0, slots);
    const cells = Math.min(slots, VnicLimits.ruleCells);
    const cpus = cells === 0 ? 0 : ruleCells.length / VnicLimits.ruleCells;
    this.#cells = Array.from({ length: cpus }, (_, cpu) => ruleCells.window(cpu * VnicLimits.ruleCells, cells));
    this.#stateWords = ruleStates.stride / 8;
    this.#cellWords = ruleCells.stride / 8;
  }

  /** @param id the rule's that has the slot: cells of an earlier one are not counted */
  sum(slot: number, id: number, field: RuleCounterField): bigint {
    if (slot >= VnicLimits.ruleCells) return this.#states.u64[slot * this.#stateWords + STATE_WORD[field]]!;
    const at = slot * this.#cellWords;
    let sum = 0n;
    for (const { u32, u64 } of this.#cells) {
      if (u32[2 * at + CELL_ID] === id) sum = BigInt.asUintN(64, sum + u64[at + CELL_WORD[field]]!);
    }
    return sum;
  }

  /** Of many rules together. */
  total({ celled, ids, shared }: RuleGroup): Record<RuleCounterField, bigint> {
    const total = sumSlots(this.#states, this.#stateWords, STATE_WORD, shared);
    for (const cells of this.#cells) {
      let count = 0;
      for (const [index, slot] of celled.entries()) {
        if (cells.u32[2 * slot * this.#cellWords + CELL_ID] === ids[index]) this.#met[count++] = slot;
      }
      const part = sumSlots(cells, this.#cellWords, CELL_WORD, this.#met.subarray(0, count));
      for (const field of fields) total[field] = BigInt.asUintN(64, total[field] + part[field]);
    }
    return total;
  }

  [Symbol.dispose](): void {
    for (const window of [this.#states, ...this.#cells]) window[Symbol.dispose]();
  }
}

/** @param id the rule's that has the slot */
export function readRuleCounters(
  { ruleStates, ruleCells }: RuleCounterMaps,
  slot: number,
  id: number,
): Record<RuleCounterField, bigint> {
  const sum = (field: RuleCounterField): bigint => {
    if (slot >= VnicLimits.ruleCells) return ruleStates.u64(slot, VnicRuleState.offsets[field]);
    let total = 0n;
    for (let at = slot; at < ruleCells.length; at += VnicLimits.ruleCells) {
      if (ruleCells.u32(at, VnicRuleCell.offsets.ruleId) !== id) continue;
      total = BigInt.asUintN(64, total + ruleCells.u64(at, VnicRuleCell.offsets[field]));
    }
    return total;
  };
  // As above: what was dropped first.
  const dropped = { droppedPackets: sum('droppedPackets'), droppedBytes: sum('droppedBytes') };
  return { packets: sum('packets'), bytes: sum('bytes'), ...dropped };
}

/** Slots that follow each other begin at zero. None of them may be in use. */
export function clearRuleCounters({ ruleStates, ruleCells }: RuleCounterMaps, first: number, count: number): void {
  ruleStates.span(first, count).fill(0);
  const cells = Math.min(first + count, VnicLimits.ruleCells) - first;
  if (cells <= 0) return;
  for (let cpu = 0; cpu < ruleCells.length / VnicLimits.ruleCells; cpu++) {
    ruleCells.span(cpu * VnicLimits.ruleCells + first, cells).fill(0);
  }
}

/**
 * Before a rule takes a slot that another one still has: CPUs begin anew when they meet it, and what is left of it from
 * an earlier time counts for nothing.
 */
export function forgetRule({ ruleCells }: Pick<RuleCounterMaps, 'ruleCells'>, slot: number, id: number): void {
  if (slot >= VnicLimits.ruleCells) return;
  for (let at = slot; at < ruleCells.length; at += VnicLimits.ruleCells) {
    ruleCells.compareExchangeU32(at, VnicRuleCell.offsets.ruleId, id, 0);
  }
}
