// SPDX-License-Identifier: Apache-2.0
/**
 * Load of each bucket, summed up from the mapped flow table while packets go on. Ingress flows only, seen in the last
 * 10 s. Left out is what the table does not steer: flows whose rule names its queues, and packets that were dropped.
 *
 * Counters are read one by one, so a flow's packets and bytes can be of different moments; what is not read atomically
 * is written once for each flow. A flow that two CPUs met first at the same moment has two entries: its load is right,
 * and it is counted twice.
 */
import { VnicDirection, VnicFlow, VnicFlowKey, VnicVerdictFlag, VnicVerdictLayout } from '../maps/generated/abi.ts';
import type { BucketLoads } from '../steering/loads.ts';
import { bucketCount, rowCount } from '../steering/table.ts';
import {
  type FlowSlice,
  type FlowTableView,
  highHalf as high,
  holdsFlow,
  lowHalf as low,
  walk,
} from '../telemetry/flow-entries.ts';
import type { Dataplane } from './dataplane.ts';
import { FlowTable } from './flow-table.ts';

/** A flow that was silent for longer does not count. */
const idleSeconds = 10;

/** Two looks that are nearer to each other say little of a rate, in ms. */
const leastWindowMs = 20;
/** Across more than this, what was a load is history, in ms. */
const longestWindowMs = 120_000;

/** What a look leaves for the next one, index: entry. */
export interface FlowLook {
  monotonicNs: bigint;
  packets: Float64Array;
  bytes: Float64Array;
  /** Tells an entry's flow from the one that has it later; 0: none. */
  created: Float64Array;
  hash: Uint32Array;
}

const words = VnicFlow.size / 4;
const longs = VnicFlow.size / 8;
const { offsets } = VnicFlow;
const at32 = {
  direction: VnicFlowKey.offsets.direction,
  verdict: offsets.verdict / 4,
  hash: offsets.hash / 4,
  lastSeen: offsets.lastSeenJiffies / 4,
  created: offsets.createdJiffies / 4,
};
const at64 = {
  packets: offsets.packets / 8,
  bytes: offsets.bytes / 8,
  droppedPackets: offsets.droppedPackets / 8,
  droppedBytes: offsets.droppedBytes / 8,
};
const dropping = VnicVerdictFlag.drop | VnicVerdictFlag.limitRule | VnicVerdictFlag.limitFlow;

function emptyLoads(windowMs: number | null): BucketLoads {
  const rows = <T>(make: () => T): T[] => Array.from({ length: rowCount }, make);
  return {
    packetsPerSecond: rows(() => new Float64Array(bucketCount)),
    bytesPerSecond: rows(() => new Float64Array(bucketCount)),
    flows: rows(() => new Uint32Array(bucketCount)),
    windowMs,
  };
}

export function emptyLook(entryCount: number): FlowLook {
  return {
    monotonicNs: 0n,
    packets: new Float64Array(entryCount),
    bytes: new Float64Array(entryCount),
    created: new Float64Array(entryCount),
    hash: new Uint32Array(entryCount),
  };
}

/**
 * One walk over the table.
 *
 * @param look of the walk before, and made that of this one. With `compare`, what came since then counts; without it
 *   each flow's mean since it was first seen
 */
export function sumBucketLoads(table: FlowTableView, look?: FlowLook, compare = false): BucketLoads {
  const { monotonicNs, jiffies, nsPerJiffy } = table.clock();
  const windowMs = compare && look !== undefined ? Number(monotonicNs - look.monotonicNs) / 1e6 : null;
  const loads = emptyLoads(windowMs);
  const secondsPerJiffy = nsPerJiffy / 1e9;
  const idleJiffies = idleSeconds / secondsPerJiffy;
  const nowLow = Number(jiffies & 0xffff_ffffn);
  const now = Number(jiffies);

  const visit = (index: number, { first, bytes: bytesView, u32, u64 }: FlowSlice): void => {
    const entry = first + index;
    const base = index * words;
    if (bytesView[index * VnicFlow.size + at32.direction] !== VnicDirection.ingress) return;
    const verdict = u32[base + at32.verdict + low]!;
    const flags = (verdict >>> VnicVerdictLayout.flagShift) & 0xff;
    if ((flags & VnicVerdictFlag.queues) !== 0) return;

    const base64 = index * longs;
    let packets = Number(u64[base64 + at64.packets]!);
    let bytes = Number(u64[base64 + at64.bytes]!);
    if ((flags & dropping) !== 0) {
      packets -= Number(u64[base64 + at64.droppedPackets]!);
      bytes -= Number(u64[base64 + at64.droppedBytes]!);
    }
    const hash = u32[base + at32.hash]!;
    const created = u32[base + at32.created + low]! + u32[base + at32.created + high]! * 2 ** 32;
    let newPackets = packets;
    let newBytes = bytes;
    let seconds = (now - created + 1) * secondsPerJiffy;
    if (windowMs !== null) {
      seconds = windowMs / 1000;
      if (look!.created[entry] === created && look!.hash[entry] === hash) {
        newPackets -= look!.packets[entry]!;
        newBytes -= look!.bytes[entry]!;
      }
    }
    if (look !== undefined) {
      look.packets[entry] = packets;
      look.bytes[entry] = bytes;
      look.created[entry] = created;
      look.hash[entry] = hash;
    }
    // Differences of jiffies fit 32 bits; one that looks negative is of a packet that came after the clock was read.
    const idle = (nowLow - u32[base + at32.lastSeen + low]!) | 0;
    const row = (verdict >>> VnicVerdictLayout.azShift) & 0xf;
    if (idle > idleJiffies || row >= rowCount) return;
    const bucket = hash & (bucketCount - 1);
    loads.flows[row]![bucket]!++;
    if (newPackets <= 0 || seconds <= 0) return;
    loads.packetsPerSecond[row]![bucket]! += newPackets / seconds;
    loads.bytesPerSecond[row]![bucket]! += Math.max(newBytes, 0) / seconds;
  };
  walk(table, (slice) => {
    const { first, tags } = slice;
    for (let index = 0; index < tags.length; index++) {
      if (holdsFlow(tags[index]!)) visit(index, slice);
      else if (look !== undefined) look.created[first + index] = 0;
    }
  });
  if (look !== undefined) look.monotonicNs = monotonicNs;
  return loads;
}

/**
 * Measures one device again and again: what came since the look before, where that was between 20 ms and 2 min ago,
 * otherwise the mean rate of each flow since it was first seen. Keeps 28 bytes for each entry of the flow table.
 */
export class BucketLoadMeter {
  readonly #dataplane: Dataplane;
  #look: FlowLook | undefined;

  constructor(dataplane: Dataplane) {
    this.#dataplane = dataplane;
  }

  measure(): BucketLoads {
    using table = new FlowTable(this.#dataplane);
    this.#look ??= emptyLook(table.length);
    const sinceMs = Number(table.clock().monotonicNs - this.#look.monotonicNs) / 1e6;
    return sumBucketLoads(table, this.#look, sinceMs >= leastWindowMs && sinceMs <= longestWindowMs);
  }
}
