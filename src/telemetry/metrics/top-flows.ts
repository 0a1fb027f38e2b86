// SPDX-License-Identifier: Apache-2.0
/** The largest flows of the flow table, as numbers without names. Reads mapped memory: no system call. */
import { hostLittleEndian } from '../../maps/codec.ts';
import { VnicFlow, VnicFlowKey, type VnicFlowSet, VnicLimits } from '../../maps/generated/abi.ts';
import type { MappedArray } from '../../maps/index.ts';

export interface FlowMaps {
  flows: MappedArray<VnicFlow>;
  flowSets: MappedArray<VnicFlowSet>;
}

interface Candidate {
  index: number;
  bytes: number;
}

/**
 * Bytes of the `count` largest flows, largest first. Goes through the whole table: a few milliseconds for 131,072 flows.
 * A flow that two CPUs met first at the same moment can have two entries; they are added up, unless one of them is smaller
 * than the `count` entries behind the largest.
 */
export function readTopFlowBytes({ flows, flowSets }: FlowMaps, count: number): bigint[] {
  if (count <= 0) return [];
  const sums = new Map<string, bigint>();
  for (const { index } of largestEntries({ flows, flowSets }, 2 * count)) {
    const key = Buffer.from(flows.bytes(index).subarray(0, VnicFlowKey.size)).toString('latin1');
    sums.set(key, (sums.get(key) ?? 0n) + flows.u64(index, VnicFlow.offsets.bytes));
  }
  return [...sums.values()].sort((a, b) => (a < b ? 1 : a > b ? -1 : 0)).slice(0, count);
}

function largestEntries({ flows, flowSets }: FlowMaps, count: number): Candidate[] {
  const tags = new Uint32Array(flowSets.asBigUint64().buffer);
  // Halves make a double, which is enough to compare by and costs no bigint.
  const halves = new Uint32Array(flows.asBigUint64().buffer);
  const [low, high] = hostLittleEndian ? [0, 1] : [1, 0];
  const setTags = flowSets.stride / 4;
  const flowHalves = flows.stride / 4;
  const largest: Candidate[] = [];
  for (let index = 0; index < flows.length; index++) {
    const tag = tags[Math.floor(index / VnicLimits.flowWays) * setTags + (index % VnicLimits.flowWays)]!;
    if (tag === 0 || tag === VnicLimits.flowTagBusy) continue;
    const at = index * flowHalves + VnicFlow.offsets.bytes / 4;
    const bytes = halves[at + high]! * 2 ** 32 + halves[at + low]!;
    if (largest.length === count && bytes <= largest[count - 1]!.bytes) continue;
    const place = largest.findIndex((candidate) => candidate.bytes < bytes);
    largest.splice(place === -1 ? largest.length : place, 0, { index, bytes });
    if (largest.length > count) largest.pop();
  }
  return largest;
}
