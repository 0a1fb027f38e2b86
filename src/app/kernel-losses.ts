// SPDX-License-Identifier: Apache-2.0
/** AZs that are out of use in the kernel and not in the record: what its watch did since somebody last wrote down what is. */
import { type Loss, lossOf } from './az-watch.ts';
import type { Dataplane } from './dataplane.ts';
import type { DeviceModel } from './device-model.ts';
import type { DeviceState } from './device-state.ts';
import type { FailedAz } from './record.ts';
import type { TableStore } from './table-store.ts';

export interface KernelLoss {
  row: number;
  failed: FailedAz;
  /** Null: it was not the kernel's watch. */
  loss: Loss | null;
}

export class KernelLosses {
  readonly #dataplane: Dataplane;
  readonly #tables: TableStore;
  readonly #state: DeviceState;

  constructor({ dataplane, tables, state }: { dataplane: Dataplane; tables: TableStore; state: DeviceState }) {
    this.#dataplane = dataplane;
    this.#tables = tables;
    this.#state = state;
  }

  /** Bit set of AZs that nobody has recorded; costs one load. */
  unrecorded(): number {
    const { model, record } = this.#state;
    return this.#tables.word().lostAzs & ~setOf(model, record.failedAzs);
  }

  /** @param lost bit set of AZs, default: those that nobody has recorded */
  list(lost = this.unrecorded()): KernelLoss[] {
    if (lost === 0) return [];
    const { model } = this.#state;
    return rowsOf(lost).flatMap((row) => {
      const name = model.azName(row);
      if (name === null) return [];
      const loss = lossOf(this.#dataplane, row);
      // Not by the watch: by a command that was killed before it could record it.
      const failed: FailedAz = { name, ...(loss?.failed ?? { cause: 'manual', since: new Date().toISOString() }) };
      return [{ row, failed, loss }];
    });
  }
}

export function bitOf(row: number): number {
  return 1 << (row - 1);
}

/** Bit set of AZs by their rows. */
export function setOf(model: DeviceModel, failedAzs: readonly FailedAz[]): number {
  return failedAzs.reduce((set, { name }) => {
    const row = model.azIndex(name);
    return row === 0 ? set : set | bitOf(row);
  }, 0);
}

function rowsOf(set: number): number[] {
  return Array.from({ length: 32 }, (_, index) => index + 1).filter((row) => (set & bitOf(row)) !== 0);
}
