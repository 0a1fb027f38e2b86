// SPDX-License-Identifier: Apache-2.0
/** Some entries of the flow table, decoded. */
import { VnicFlow, VnicFlowKey } from '../maps/generated/abi.ts';
import { type FlowTableView, walkInTurns } from './flow-entries.ts';

export interface FlowCopy {
  /** The same for two entries of one flow. */
  key: string;
  flow: VnicFlow;
}

/** By entry, in the order of `entries`. */
export async function copyEntries(table: FlowTableView, entries: readonly number[]): Promise<Map<number, FlowCopy>> {
  const copies = new Map<number, FlowCopy | null>(entries.map((entry) => [entry, null]));
  const entriesOfSlice = table.length / table.sliceCount;
  const bySlice = Map.groupBy(entries, (entry) => Math.floor(entry / entriesOfSlice));
  await walkInTurns(
    table,
    ({ first, bytes }) => {
      for (const entry of bySlice.get(Math.floor(first / entriesOfSlice)) ?? []) {
        const at = (entry - first) * VnicFlow.size;
        const copy = bytes.slice(at, at + VnicFlow.size);
        const key = Buffer.from(copy.buffer, 0, VnicFlowKey.size).toString('latin1');
        copies.set(entry, { key, flow: VnicFlow.decode(copy) });
      }
    },
    bySlice.keys(),
  );
  return copies as Map<number, FlowCopy>;
}
