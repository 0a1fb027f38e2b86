// SPDX-License-Identifier: Apache-2.0
/** The flow table, read from mapped memory while packets go on. */
import {
  type VnicFlow,
  VnicFlowKey,
  VnicFlowSet,
  VnicLimits,
  VnicNone,
  VnicVerdictFlag,
  VnicVerdictLayout,
} from '../maps/generated/abi.ts';
import { formatAddress } from '../steering/rules/prefix.ts';
import { copyEntries } from '../telemetry/flow-copies.ts';
import { type FlowClock, type FlowTableView, holdsFlow } from '../telemetry/flow-entries.ts';
import type { Dataplane } from './dataplane.ts';
import type { FlowMeter, FlowOrder } from './flow-meter.ts';

export interface Verdict {
  /** Null: no rule matched. */
  slot: number | null;
  /** 0: none known. */
  az: number;
  flags: number;
  generation: number;
}

export function decodeVerdict(verdict: bigint): Verdict {
  const low = Number(verdict & 0xffff_ffffn);
  const slot = low & VnicNone.noRule;
  return {
    slot: slot === VnicNone.noRule ? null : slot,
    az: (low >>> VnicVerdictLayout.azShift) & 0xf,
    flags: (low >>> VnicVerdictLayout.flagShift) & 0xff,
    generation: Number(verdict >> BigInt(VnicVerdictLayout.generationShift)),
  };
}

export interface FlowEntry {
  flow: VnicFlow;
  verdict: Verdict;
}

/**
 * Every flow in the table. A flow that two CPUs met first at the same moment can have two entries; they are added up.
 */
export function readFlows(dataplane: Dataplane): FlowEntry[] {
  const { flowSets, flows } = dataplane;
  const found = new Map<string, VnicFlow>();
  for (let set = 0; set < flowSets.length; set++) {
    for (let way = 0; way < VnicLimits.flowWays; way++) {
      const tag = flowSets.u32(set, VnicFlowSet.offsets.tag + 4 * way);
      if (!holdsFlow(tag)) continue;
      const index = set * VnicLimits.flowWays + way;
      const key = Buffer.from(flows.bytes(index).subarray(0, VnicFlowKey.size)).toString('latin1');
      const flow = flows.read(index);
      const other = found.get(key);
      found.set(key, other === undefined ? flow : merge(other, flow));
    }
  }
  return [...found.values()].map((flow) => ({ flow, verdict: decodeVerdict(flow.verdict) }));
}

function merge(a: VnicFlow, b: VnicFlow): VnicFlow {
  const newer = a.lastSeenJiffies >= b.lastSeenJiffies ? a : b;
  const older = a.createdJiffies < b.createdJiffies ? a : b;
  return {
    ...newer,
    packets: a.packets + b.packets,
    bytes: a.bytes + b.bytes,
    droppedPackets: a.droppedPackets + b.droppedPackets,
    droppedBytes: a.droppedBytes + b.droppedBytes,
    createdJiffies: older.createdJiffies,
  };
}

export interface FlowStatus {
  direction: 'ingress' | 'egress';
  src: string;
  dst: string;
  srcPort: number;
  dstPort: number;
  proto: number;
  packets: number;
  bytes: number;
  droppedPackets: number;
  droppedBytes: number;
  /** Lately; see FlowMeter. */
  bitsPerSecond: number;
  ageSeconds: number;
  idleSeconds: number;
  queue: number | null;
  az: string | null;
  rule: number | null;
  verdict: 'pass' | 'drop' | 'limit';
}

export interface FlowNames {
  /** Name of an AZ index, 1 upwards. */
  azName(index: number): string | null;
  ruleId(slot: number, generation: number): number | null;
}

/** Verdict in a word: what the rule does, or did to a packet of the flow. */
export function verdictName({ flow, verdict }: FlowEntry): 'pass' | 'drop' | 'limit' {
  const shadow = (verdict.flags & VnicVerdictFlag.shadow) !== 0;
  if ((verdict.flags & VnicVerdictFlag.drop) !== 0 && !shadow) return 'drop';
  return flow.droppedPackets > 0n ? 'limit' : 'pass';
}

/** A flow of the table; what two entries of one flow have is added up. */
interface RatedFlow {
  flow: VnicFlow;
  bitsPerSecond: number;
}

export interface TopFlows {
  flows: RatedFlow[];
  clock: FlowClock;
}

const sizeOf = {
  bytes: ({ flow }: RatedFlow) => Number(flow.bytes),
  packets: ({ flow }: RatedFlow) => Number(flow.packets),
  rate: ({ bitsPerSecond }: RatedFlow) => bitsPerSecond,
} as const;

/**
 * The top flows. One walk over the table in place, in turns with other work; only those that are shown are decoded.
 *
 * @param meter that looked at the table before, or the rates are means since each flow was first seen
 */
export async function topFlows(table: FlowTableView, top: number, by: FlowOrder, meter: FlowMeter): Promise<TopFlows> {
  // Twice as many, because a flow can have two entries.
  const largest = await meter.largest(table, 2 * top, by);
  const copies = await copyEntries(
    table,
    largest.map(({ entry }) => entry),
  );
  const found = new Map<string, RatedFlow>();
  for (const { entry, bitsPerSecond } of largest) {
    const { key, flow } = copies.get(entry)!;
    const other = found.get(key);
    if (other === undefined) found.set(key, { flow, bitsPerSecond });
    else found.set(key, { flow: merge(other.flow, flow), bitsPerSecond: other.bitsPerSecond + bitsPerSecond });
  }
  const flows = [...found.values()].sort((a, b) => sizeOf[by](b) - sizeOf[by](a)).slice(0, top);
  return { flows, clock: table.clock() };
}

/** As users see them. */
export function flowStatus({ flows, clock }: TopFlows, names: FlowNames): FlowStatus[] {
  const secondsSince = (jiffies: bigint): number =>
    Math.max(0, (Number(clock.jiffies - jiffies) * clock.nsPerJiffy) / 1e9);
  return flows.map(({ flow, bitsPerSecond }): FlowStatus => {
    const entry = { flow, verdict: decodeVerdict(flow.verdict) };
    const { slot, az, generation } = entry.verdict;
    return {
      direction: flow.key.direction === 0 ? 'ingress' : 'egress',
      src: formatAddress(flow.key.src.bytes),
      dst: formatAddress(flow.key.dst.bytes),
      srcPort: flow.key.sport,
      dstPort: flow.key.dport,
      proto: flow.key.proto,
      packets: Number(flow.packets),
      bytes: Number(flow.bytes),
      droppedPackets: Number(flow.droppedPackets),
      droppedBytes: Number(flow.droppedBytes),
      bitsPerSecond,
      ageSeconds: secondsSince(flow.createdJiffies),
      idleSeconds: secondsSince(flow.lastSeenJiffies),
      queue: flow.queue === VnicNone.noQueue ? null : flow.queue,
      az: names.azName(az),
      rule: slot === null ? null : names.ruleId(slot, generation),
      verdict: verdictName(entry),
    };
  });
}
