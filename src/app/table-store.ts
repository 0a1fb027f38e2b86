// SPDX-License-Identifier: Apache-2.0
/**
 * Steering tables in mapped memory. A table is written where no packet looks, then made active by one compare-and-swap
 * of the active number and the set of lost AZs, which the kernel's watch changes too (bpf/watch.h).
 *
 * Beside the active table lie standby tables, one for each loss that it is prepared for, in one of two banks. The active
 * table names its bank; the next bank is filled while the kernel goes on with this one.
 *
 * A generation is not written again until a grace period after it was left: a packet reads the active number once
 * and may use that table until it is done.
 */
import { VnicError } from '../errors.ts';
import { VnicControl, VnicLimits, VnicNone, VnicTableInfo, VnicWatch } from '../maps/generated/abi.ts';
import type { SteeringTable } from '../steering/table.ts';
import type { Dataplane } from './dataplane.ts';

/** Far longer than a packet takes through the program, which cannot sleep. */
const GRACE_NS = 100_000_000n;

const REHEARSALS = 8;
/** No state of the control word: more AZs than there are. */
const NEVER: SteeringWord = { table: null, lostAzs: 2 ** 32 - 1 };

const { offsets } = VnicControl;
const info = VnicTableInfo.offsets;
const NO_TABLE = VnicNone.noTable;

/** The active table and the AZs that are out of use, as they are at one moment. */
export interface SteeringWord {
  /** Null: steering is off. */
  table: number | null;
  /** Bit n - 1: the AZ of row n. */
  lostAzs: number;
}

export interface Commit {
  generation: number;
  /** From before the store to after it. */
  commitNs: bigint;
}

export interface Activation {
  /** What the change was planned on. Absent: whatever is there. */
  expected?: SteeringWord;
  /** Default: as it is. */
  lostAzs?: number;
  /** For so long flows leave a usable queue only in order. Default: not at all. */
  settleMs?: number;
}

/** What the active table becomes when AZs are lost. */
export interface StandbyTable {
  /** Bit set of all lost AZs. */
  azs: number;
  table: SteeringTable;
  /** Whether flows may leave their queues in order: none of them is lost. */
  settle: boolean;
}

/** The kernel took an AZ out of use while a change was being planned. */
export class SteeringMoved extends VnicError {
  constructor() {
    super('conflict', 'The kernel took an AZ out of use while this was being planned.', { remedy: 'Try again.' });
  }
}

export class TableStore {
  readonly #dataplane: Dataplane;

  constructor(dataplane: Dataplane) {
    this.#dataplane = dataplane;
  }

  word(): SteeringWord {
    return unpack(this.#dataplane.control.u64(0, offsets.activeTable));
  }

  /** Generation of the active table, or null when steering is off. */
  active(): number | null {
    return this.word().table;
  }

  read(generation: number): SteeringTable {
    return {
      rows: Array.from({ length: VnicLimits.tableRows }, (_, row) => this.#row(generation, row).slice()),
      usableQueues: this.usableQueues(generation),
    };
  }

  /** Bit mask of the queues that a table uses. */
  usableQueues(generation: number): bigint {
    return this.#info64(generation, 'usableQueues');
  }

  /** Whether a table was written and never became active. */
  isPrepared(generation: number): boolean {
    if (generation >= VnicLimits.tableGenerations || generation === this.active()) return false;
    return this.usableQueues(generation) !== 0n && this.#info64(generation, 'leftNs') === 0n;
  }

  /** Writes a table into a spare generation and returns its number. Nothing changes for packets. */
  prepare(table: SteeringTable, { bank = this.#bank(), settleMs = 0 } = {}): number {
    const [generation] = this.#spares(1);
    this.#write(generation!, table, { bank, settleMs });
    return generation!;
  }

  /**
   * Writes standby tables into the bank that is not in use and returns its number, for a table that is prepared with it,
   * or for `useBank`.
   */
  prepareStandbys(standbys: readonly StandbyTable[], settleMs: number): number {
    const bank = (this.#bank() + 1) % VnicLimits.standbyBanks;
    const entries = this.#standbys(bank);
    entries.fill(VnicNone.noStandby);
    const generations = this.#spares(standbys.length);
    standbys.forEach(({ azs, table, settle }, index) => {
      const generation = generations[index]!;
      this.#write(generation, table, { bank, settleMs: settle ? settleMs : 0 });
      entries[azs] = generation;
    });
    return bank;
  }

  /** The active table's standbys are those of the bank from now on. */
  useBank(bank: number): void {
    const active = this.active();
    if (active === null) return;
    const before = this.#bank();
    this.#put32(active, 'bank', bank);
    if (before !== bank) this.#release(before, active);
  }

  /** The standby table for exactly these lost AZs; null: there is none. */
  standbyFor(lostAzs: number): number | null {
    const generation = this.#standbys(this.#bank())[lostAzs] ?? VnicNone.noStandby;
    return generation === VnicNone.noStandby ? null : generation;
  }

  /** Sets of lost AZs for which there is a standby table, ascending. */
  standbySets(): number[] {
    const entries = this.#standbys(this.#bank());
    return Array.from(entries, (_, azs) => azs).filter((azs) => entries[azs] !== VnicNone.noStandby);
  }

  /** The switch. Throws SteeringMoved where it is not as expected any more; nothing is changed then. */
  activate(generation: number, { expected, lostAzs, settleMs = 0 }: Activation = {}): Commit {
    const { control } = this.#dataplane;
    const before = expected ?? this.word();
    const oldBank = this.#bank();
    const next = { table: generation, lostAzs: lostAzs ?? before.lostAzs };
    const start = process.hrtime.bigint();
    this.#put64(generation, 'leftNs', 0n);
    this.#put64(generation, 'settleUntilNs', settleMs === 0 ? 0n : start + BigInt(settleMs) * 1_000_000n);
    // Before the switch: who is killed behind it must not leave a table that looks as if it had never been active.
    const isLeft = before.table !== null && before.table !== generation;
    if (isLeft) this.#put64(before.table!, 'leftNs', start);
    if (!control.compareExchangeU64(0, offsets.activeTable, pack(before), pack(next))) {
      if (isLeft && this.active() === before.table) this.#put64(before.table!, 'leftNs', 0n);
      throw new SteeringMoved();
    }
    const end = process.hrtime.bigint();
    if (this.#bank() !== oldBank) this.#release(oldBank, generation);
    return { generation, commitNs: end - start };
  }

  /**
   * Goes through a switch up to the compare-and-swap, which cannot succeed, so that the first real one finds its code
   * compiled.
   */
  rehearse(): void {
    const [spare] = this.#spares(1);
    for (let time = 0; time < REHEARSALS; time++) {
      this.standbyFor(time);
      try {
        this.activate(spare!, { expected: NEVER, lostAzs: 0 });
      } catch (error) {
        if (!(error instanceof SteeringMoved)) throw error;
      }
    }
  }

  commit(table: SteeringTable): Commit {
    return this.activate(this.prepare(table));
  }

  /** For so long from now on, flows leave a place that may hold packets of theirs only in order. */
  settle(ms: number): void {
    const active = this.active();
    if (active !== null) this.#put64(active, 'settleUntilNs', process.hrtime.bigint() + BigInt(ms) * 1_000_000n);
  }

  /** Packets pass unsteered from now on; rules and limits go on. */
  deactivate(): void {
    this.#dataplane.control.storeU32(0, offsets.activeTable, NO_TABLE);
  }

  #row(generation: number, row: number): Uint16Array {
    return this.#dataplane.table.u16Row(generation * VnicLimits.tableRows + row);
  }

  #write(generation: number, table: SteeringTable, { bank, settleMs }: { bank: number; settleMs: number }): void {
    table.rows.forEach((row, index) => {
      this.#row(generation, index).set(row);
    });
    this.#put64(generation, 'usableQueues', table.usableQueues);
    this.#put64(generation, 'settleUntilNs', 0n);
    this.#put32(generation, 'settleMs', settleMs);
    this.#put32(generation, 'bank', bank);
    this.#put64(generation, 'leftNs', 0n);
  }

  /** Of the table that is active, or was when steering was turned off by the dead-man. */
  #bank(): number {
    const table = this.active() ?? this.#passedTable();
    return table === null ? 0 : this.#dataplane.control.u32(0, infoAt(table) + info.bank) % VnicLimits.standbyBanks;
  }

  #passedTable(): number | null {
    const table = this.#dataplane.watch.u32(0, VnicWatch.offsets.passedTable);
    return table < VnicLimits.tableGenerations ? table : null;
  }

  /** By set of lost AZs, in place. */
  #standbys(bank: number): Uint16Array {
    const bytes = this.#dataplane.control.bytes(0);
    const start = bytes.byteOffset + offsets.standby + bank * VnicLimits.azSets * 2;
    return new Uint16Array(bytes.buffer, start, VnicLimits.azSets);
  }

  /** The standby tables of a bank are not needed any more. */
  #release(bank: number, except: number): void {
    const now = process.hrtime.bigint();
    for (const generation of this.#standbys(bank)) {
      if (generation < VnicLimits.tableGenerations && generation !== except) this.#put64(generation, 'leftNs', now);
    }
  }

  /** Generations that may be written, those that were left first before the others. Waits for a grace period to end. */
  #spares(count: number): number[] {
    const banks = Array.from({ length: VnicLimits.standbyBanks }, (_, bank) => [...this.#standbys(bank)]);
    const reserved = new Set<number | null>([this.active(), this.#passedTable(), ...banks.flat()]);
    const free = Array.from({ length: VnicLimits.tableGenerations }, (_, generation) => generation)
      .filter((generation) => !reserved.has(generation))
      .map((generation) => ({ generation, freeNs: this.#freeFrom(generation) }))
      .sort((a, b) => Number(a.freeNs - b.freeNs))
      .slice(0, count);
    if (free.length < count) {
      throw new VnicError('failed', `${count} steering tables are needed, but only ${free.length} are not in use.`);
    }
    const waitNs = (free.at(-1)?.freeNs ?? 0n) - process.hrtime.bigint();
    if (waitNs > 0n) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(waitNs) / 1e6);
    return free.map(({ generation }) => generation);
  }

  #freeFrom(generation: number): bigint {
    const leftNs = this.#info64(generation, 'leftNs');
    return leftNs === 0n ? 0n : leftNs + GRACE_NS;
  }

  #info64(generation: number, field: 'usableQueues' | 'leftNs' | 'settleUntilNs'): bigint {
    return this.#dataplane.control.u64(0, infoAt(generation) + info[field]);
  }

  #put64(generation: number, field: 'usableQueues' | 'leftNs' | 'settleUntilNs', value: bigint): void {
    this.#dataplane.control.storeU64(0, infoAt(generation) + info[field], value);
  }

  #put32(generation: number, field: 'settleMs' | 'bank', value: number): void {
    this.#dataplane.control.storeU32(0, infoAt(generation) + info[field], value);
  }
}

function infoAt(generation: number): number {
  return offsets.tables + generation * VnicTableInfo.size;
}

function pack({ table, lostAzs }: SteeringWord): bigint {
  return BigInt(table ?? NO_TABLE) | (BigInt(lostAzs) << 32n);
}

function unpack(word: bigint): SteeringWord {
  const table = Number(word & 0xffff_ffffn);
  return { table: table === NO_TABLE ? null : table, lostAzs: Number(word >> 32n) };
}
