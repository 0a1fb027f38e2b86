// SPDX-License-Identifier: Apache-2.0
/**
 * Steering tables in mapped memory. A table is written where no packet looks, then made active by one store.
 * A generation is not written again until a grace period after it was left: a packet reads the active number once
 * and may use that table until it is done.
 */
import { VnicError } from '../errors.ts';
import { VnicControl, VnicLimits, VnicNone, VnicTableInfo } from '../maps/generated/abi.ts';
import type { SteeringTable } from '../steering/table.ts';
import type { Dataplane } from './dataplane.ts';

/** Far longer than a packet takes through the program, which cannot sleep. */
const GRACE_NS = 100_000_000n;

const { offsets } = VnicControl;

export interface Commit {
  generation: number;
  /** From before the store to after it. */
  commitNs: bigint;
}

export class TableStore {
  readonly #dataplane: Dataplane;

  constructor(dataplane: Dataplane) {
    this.#dataplane = dataplane;
  }

  /** Generation of the active table, or null when steering is off. */
  active(): number | null {
    const generation = this.#dataplane.control.read(0).activeTable;
    return generation === VnicNone.noTable ? null : generation;
  }

  read(generation: number): SteeringTable {
    const info = this.#dataplane.control.read(0).tables[generation];
    return {
      rows: Array.from({ length: VnicLimits.tableRows }, (_, row) => this.#row(generation, row).slice()),
      usableQueues: info?.usableQueues ?? 0n,
    };
  }

  /** Bit mask of the queues that a table uses. */
  usableQueues(generation: number): bigint {
    return this.#dataplane.control.read(0).tables[generation]?.usableQueues ?? 0n;
  }

  /** Whether a table was written and never became active. */
  isPrepared(generation: number): boolean {
    const { tables, activeTable } = this.#dataplane.control.read(0);
    const info = tables[generation];
    return info !== undefined && generation !== activeTable && info.usableQueues !== 0n && info.leftNs === 0n;
  }

  /** Writes a table into a spare generation and returns its number. Nothing changes for packets. */
  prepare(table: SteeringTable, now = process.hrtime.bigint()): number {
    const generation = this.#spare(now);
    table.rows.forEach((row, index) => {
      this.#row(generation, index).set(row);
    });
    this.#putInfo(generation, { usableQueues: table.usableQueues, leftNs: 0n });
    return generation;
  }

  /** The switch: one store. */
  activate(generation: number): Commit {
    const { control } = this.#dataplane;
    const before = this.active();
    const start = process.hrtime.bigint();
    control.storeU32(0, offsets.activeTable, generation);
    const end = process.hrtime.bigint();
    if (before !== null && before !== generation) this.#putInfo(before, { leftNs: end });
    return { generation, commitNs: end - start };
  }

  commit(table: SteeringTable): Commit {
    return this.activate(this.prepare(table));
  }

  /** Packets pass unsteered from now on; rules and limits go on. */
  deactivate(): void {
    this.#dataplane.control.storeU32(0, offsets.activeTable, VnicNone.noTable);
  }

  #row(generation: number, row: number): Uint16Array {
    return this.#dataplane.table.u16Row(generation * VnicLimits.tableRows + row);
  }

  #spare(now: bigint): number {
    const { tables, activeTable } = this.#dataplane.control.read(0);
    const free = tables
      .map(({ leftNs }, generation) => ({ generation, leftNs }))
      .filter(({ generation, leftNs }) => generation !== activeTable && now - leftNs > GRACE_NS)
      .sort((a, b) => Number(a.leftNs - b.leftNs))[0];
    if (free === undefined) {
      throw new VnicError('conflict', 'Every spare steering table was in use a moment ago.', {
        remedy: 'Tables are being changed more than 80 times a second; slow down.',
      });
    }
    return free.generation;
  }

  #putInfo(generation: number, info: { usableQueues?: bigint; leftNs?: bigint }): void {
    const { control } = this.#dataplane;
    const at = offsets.tables + generation * VnicTableInfo.size;
    if (info.usableQueues !== undefined)
      control.storeU64(0, at + VnicTableInfo.offsets.usableQueues, info.usableQueues);
    if (info.leftNs !== undefined) control.storeU64(0, at + VnicTableInfo.offsets.leftNs, info.leftNs);
  }
}
