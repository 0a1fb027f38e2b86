// SPDX-License-Identifier: Apache-2.0
/** The flow table, read from mapped memory while packets go on. */
import { ProgramRunner } from '../loader/program.ts';
import {
  VnicClock,
  type VnicFlow,
  VnicFlowKey,
  VnicFlowSet,
  VnicLimits,
  VnicNone,
  VnicVerdictFlag,
  VnicVerdictLayout,
} from '../maps/generated/abi.ts';
import { formatAddress } from '../steering/rules/prefix.ts';
import type { Dataplane } from './dataplane.ts';
import { jiffyNs } from './machine.ts';

export type FlowOrder = 'bytes' | 'packets' | 'rate';

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
      if (tag === 0 || tag === VnicLimits.flowTagBusy) continue;
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
  /** Mean since the flow was first seen. */
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

/** Turns the jiffies64 values of flow entries into time before now. */
export class JiffyClock {
  readonly #nsPerJiffy: number;
  readonly #nowJiffies: bigint;

  constructor(dataplane: Dataplane) {
    const { native } = dataplane;
    const runner = new ProgramRunner(native, dataplane.program('vnic_clock'), { maxInputBytes: 64, outputBytes: 64 });
    runner.run(new Uint8Array(64));
    this.#nowJiffies = VnicClock.decode(runner.output).jiffies;
    this.#nsPerJiffy = jiffyNs(native);
  }

  secondsSince(jiffies: bigint): number {
    return Math.max(0, (Number(this.#nowJiffies - jiffies) * this.#nsPerJiffy) / 1e9);
  }
}

/** The top flows as users see them. */
export function flowStatus(dataplane: Dataplane, names: FlowNames, top: number, by: FlowOrder): FlowStatus[] {
  const clock = new JiffyClock(dataplane);
  const statuses = readFlows(dataplane).map((entry): FlowStatus => {
    const { flow, verdict } = entry;
    const ageSeconds = clock.secondsSince(flow.createdJiffies);
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
      bitsPerSecond: ageSeconds === 0 ? 0 : (Number(flow.bytes) * 8) / ageSeconds,
      ageSeconds,
      idleSeconds: clock.secondsSince(flow.lastSeenJiffies),
      queue: flow.queue === VnicNone.noQueue ? null : flow.queue,
      az: names.azName(verdict.az),
      rule: verdict.slot === null ? null : names.ruleId(verdict.slot, verdict.generation),
      verdict: verdictName(entry),
    };
  });
  const value = { bytes: 'bytes', packets: 'packets', rate: 'bitsPerSecond' } as const;
  return statuses.sort((a, b) => b[value[by]] - a[value[by]]).slice(0, top);
}
