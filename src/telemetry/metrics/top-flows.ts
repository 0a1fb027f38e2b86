// SPDX-License-Identifier: Apache-2.0
/** The largest flows of the flow table, as numbers without names. */
import { VnicFlow } from '../../maps/generated/abi.ts';
import { copyEntries } from '../flow-copies.ts';
import { type FlowTableView, highHalf, holdsFlow, Largest, lowHalf, walkInTurns } from '../flow-entries.ts';

const words = VnicFlow.size / 4;
const bytesAt = VnicFlow.offsets.bytes / 4;

/**
 * Bytes of the `count` largest flows, largest first. Goes through the whole table, in turns with other work.
 * A flow that two CPUs met first at the same moment can have two entries; they are added up, unless one of them is smaller
 * than the `count` entries behind the largest.
 */
export async function topFlowBytes(table: FlowTableView, count: number): Promise<bigint[]> {
  if (count <= 0) return [];
  const largest = new Largest(2 * count);
  await walkInTurns(table, ({ first, tags, u32 }) => {
    for (let index = 0; index < tags.length; index++) {
      if (!holdsFlow(tags[index]!)) continue;
      const at = index * words + bytesAt;
      largest.offer(u32[at + highHalf]! * 2 ** 32 + u32[at + lowHalf]!, first + index);
    }
  });
  const sums = new Map<string, bigint>();
  for (const { key, flow } of (await copyEntries(table, largest.sorted())).values()) {
    sums.set(key, (sums.get(key) ?? 0n) + flow.bytes);
  }
  return [...sums.values()].sort((a, b) => (a < b ? 1 : a > b ? -1 : 0)).slice(0, count);
}
