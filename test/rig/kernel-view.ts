// SPDX-License-Identifier: Apache-2.0
/** What the kernel's side of an attached device says, read from its pinned maps and never written. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Native } from '../../src/loader/ffi/index.ts';
import { type DeviceId, PinFolder } from '../../src/loader/pins.ts';
import type { StructCodec } from '../../src/maps/codec.ts';
import {
  type VnicAzWatch,
  VnicBfdSession,
  VnicControl,
  VnicCpuStats,
  VnicLimits,
  VnicNone,
  VnicTableInfo,
  VnicTableRow,
  VnicWatch,
  VnicWatchLimits,
} from '../../src/maps/generated/abi.ts';
import { BpfMap, MappedArray } from '../../src/maps/index.ts';
import type { SteeringTable } from '../../src/steering/table.ts';

/** Flows that left a queue, and packets that were kept on the former one. */
export interface Moves {
  inOrder: number;
  forced: number;
  risked: number;
  heldPackets: number;
}

export interface Look {
  /** CLOCK_MONOTONIC before the look that found it. */
  notBeforeNs: bigint;
  /** And of the look itself. */
  atNs: bigint;
}

export class KernelView implements Disposable {
  readonly #control: MappedArray<VnicControl>;
  readonly #watch: MappedArray<VnicWatch>;
  readonly #stats: MappedArray<VnicCpuStats>;
  readonly #table: MappedArray<VnicTableRow>;
  readonly #bfd: MappedArray<VnicBfdSession>;

  constructor(native: Native, device: DeviceId) {
    const pins = new PinFolder(native, device);
    const mapped = <T>(name: string, codec: StructCodec<T>): MappedArray<T> => {
      using map = BpfMap.fromPin(native, pins.pathOf(name));
      return new MappedArray(native, map, codec, { readOnly: true });
    };
    this.#control = mapped('vnic_control', VnicControl);
    this.#watch = mapped('vnic_watch', VnicWatch);
    this.#stats = mapped('vnic_cpu_stats', VnicCpuStats);
    this.#table = mapped('vnic_table', VnicTableRow);
    this.#bfd = mapped('vnic_bfd', VnicBfdSession);
  }

  hashSeed(): number {
    return this.#control.u32(0, VnicControl.offsets.hashSeed);
  }

  /** Generation of the table that packets meet. */
  activeTable(): number {
    return this.#control.u32(0, VnicControl.offsets.activeTable);
  }

  /** @param row of the AZ, from 1 */
  isLost(row: number): boolean {
    return ((this.#control.u32(0, VnicControl.offsets.lostAzs) >> (row - 1)) & 1) === 1;
  }

  /** Whether a table is prepared for losing this AZ besides those that are lost. */
  hasStandby(row: number): boolean {
    const { activeTable, lostAzs, tables, standby } = this.#control.read(0);
    const bank = tables[activeTable]?.bank ?? 0;
    return (standby[bank * VnicLimits.azSets + (lostAzs | (1 << (row - 1)))] ?? 0) !== VnicNone.noStandby;
  }

  /** CLOCK_MONOTONIC when the table was left; 0n: it was not. */
  leftNs(generation: number): bigint {
    return this.#control.u64(
      0,
      VnicControl.offsets.tables + generation * VnicTableInfo.size + VnicTableInfo.offsets.leftNs,
    );
  }

  table(generation: number): SteeringTable {
    const first = generation * VnicLimits.tableRows;
    return {
      rows: Array.from({ length: VnicLimits.tableRows }, (_, row) => this.#table.u16Row(first + row).slice()),
      usableQueues: this.#control.read(0).tables[generation]?.usableQueues ?? 0n,
    };
  }

  az(row: number): VnicAzWatch {
    return this.#watch.read(0).azs[row]!;
  }

  /** Whether the AZ was so busy for so long that its silence would say something. */
  isArmed(row: number): boolean {
    return this.az(row).windows >= VnicWatchLimits.windows;
  }

  /** The BFD sessions of an AZ. @param row from 1 */
  bfdSessions(row: number): VnicBfdSession[] {
    return Array.from({ length: this.#bfd.length }, (_, index) => this.#bfd.read(index)).filter(
      ({ az, localDiscr }) => az === row && localDiscr !== 0,
    );
  }

  /** Longest time between two looks of the watch, since it began. */
  longestTickNs(): number {
    return Number(this.#watch.read(0).longestTickNs);
  }

  heartbeatNs(): bigint {
    return this.#watch.u64(0, VnicWatch.offsets.heartbeatNs);
  }

  moves(): Moves {
    const sum = (field: 'movesInOrder' | 'movesForced' | 'movesRisked' | 'heldPackets'): number => {
      let total = 0n;
      for (let cpu = 0; cpu < this.#stats.length; cpu++) total += this.#stats.u64(cpu, VnicCpuStats.offsets[field]);
      return Number(total);
    };
    return {
      inOrder: sum('movesInOrder'),
      forced: sum('movesForced'),
      risked: sum('movesRisked'),
      heldPackets: sum('heldPackets'),
    };
  }

  close(): void {
    for (const array of [this.#control, this.#watch, this.#stats, this.#table, this.#bfd]) array.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Looks every `pollMs` until it is so; null: not within `timeoutMs`. */
export async function watchFor(isSo: () => boolean, timeoutMs: number, pollMs = 1): Promise<Look | null> {
  let notBeforeNs = process.hrtime.bigint();
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const atNs = process.hrtime.bigint();
    if (isSo()) return { notBeforeNs, atNs };
    if (performance.now() > deadline) return null;
    notBeforeNs = atNs;
    await sleep(pollMs);
  }
}

/** As `watchFor`, and throws when it does not come. */
export async function waitFor(what: string, isSo: () => boolean, timeoutMs = 20_000): Promise<Look> {
  const look = await watchFor(isSo, timeoutMs);
  if (look === null) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
  return look;
}
