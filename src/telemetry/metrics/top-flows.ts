// SPDX-License-Identifier: Apache-2.0
/** The largest flows of the flow table, as numbers without names. Reads mapped memory: no system call. */
import { VnicFlow, VnicFlowKey, type VnicFlowSet, VnicLimits } from '../../maps/generated/abi.ts';
import type { MappedArray } from '../../maps/index.ts';
import { highHalf, holdsFlow, Largest, lowHalf } from '../flow-entries.ts';

export interface FlowMaps {
  flows: MappedArray<VnicFlow>;
  flowSets: MappedArray<VnicFlowSet>;
}

/**
 * Bytes of the `count` largest flows, largest first. Goes through the whole table: a few milliseconds for 131,072 flows.
 * A flow that two CPUs met first at the same moment can have two entries; they are added up, unless one of them is smaller
 * than the `count` entries behind the largest.
 */
export function readTopFlowBytes({ flows, flowSets }: FlowMaps, count: number): bigint[] {
  if (count <= 0) return [];
  const sums = new Map<string, bigint>();
  for (const index of largestEntries({ flows, flowSets }, 2 * count)) {
    const key = Buffer.from(flows.bytes(index).subarray(0, VnicFlowKey.size)).toString('latin1');
    sums.set(key, (sums.get(key) ?? 0n) + flows.u64(index, VnicFlow.offsets.bytes));
  }
  return [...sums.values()].sort((a, b) => (a < b ? 1 : a > b ? -1 : 0)).slice(0, count);
}

function largestEntries({ flows, flowSets }: FlowMaps, count: number): number[] {
  const tags = new Uint32Array(flowSets.asBigUint64().buffer);
  const halves = new Uint32Array(flows.asBigUint64().buffer);
  const setTags = flowSets.stride / 4;
  const flowHalves = flows.stride / 4;
  const largest = new Largest(count);
  for (let entry = 0; entry < flows.length; entry++) {
    if (!holdsFlow(tags[Math.floor(entry / VnicLimits.flowWays) * setTags + (entry % VnicLimits.flowWays)]!)) continue;
    const at = entry * flowHalves + VnicFlow.offsets.bytes / 4;
    largest.offer(halves[at + highHalf]! * 2 ** 32 + halves[at + lowHalf]!, entry);
  }
  return largest.sorted();
}
