// SPDX-License-Identifier: Apache-2.0
/**
 * The largest flows of the mapped flow table, and how fast each is lately: what it counts now against an earlier look.
 * Walks the table in place while packets go on; nothing is stopped or copied. Holds 12 bytes for each entry and look, and
 * lets go of looks that are too old to compare with.
 */
import { VnicFlow } from '../maps/generated/abi.ts';
import {
  type FlowSlice,
  type FlowTableView,
  highHalf as high,
  holdsFlow,
  Largest,
  lowHalf as low,
  walkInTurns,
} from '../telemetry/flow-entries.ts';

export type FlowOrder = 'bytes' | 'packets' | 'rate';

/** Two looks that are nearer to each other say little of a rate, in ms. */
const leastWindowMs = 200;
/** What is longer ago is not lately, in ms. */
const longestWindowMs = 10_000;
/** A look is kept for so long before the next one takes its place, in ms. */
const keepMs = 1000;
/** How long to wait between a first look and the next, in ms. */
const firstWindowMs = 250;

interface Look {
  /** When it began; and when each slice was looked at, in ms after that. */
  monotonicNs: bigint;
  slicesMs: Float64Array;
  bytes: Float64Array;
  /** Low half of the jiffies at which the entry's flow began: tells it from the one that has the entry later. */
  created: Uint32Array;
}

export interface LargeFlow {
  /** Index in the flow table. */
  entry: number;
  bitsPerSecond: number;
}

const words = VnicFlow.size / 4;
const at = {
  bytes: VnicFlow.offsets.bytes / 4,
  packets: VnicFlow.offsets.packets / 4,
  created: VnicFlow.offsets.createdJiffies / 4,
};

export class FlowMeter {
  #last: Look | null = null;
  #before: Look | null = null;
  #forgetting: NodeJS.Timeout | undefined;

  /** Looks, if there is no look to compare the next one with; gives how long to wait for that one, in ms. */
  async prepare(table: FlowTableView): Promise<number> {
    const { monotonicNs } = table.clock();
    if (this.#comparable(monotonicNs) !== null) return 0;
    const ageMs = this.#last === null ? Number.POSITIVE_INFINITY : ageOf(this.#last, monotonicNs);
    if (ageMs <= leastWindowMs) return leastWindowMs - ageMs;
    const look = newLook(table, monotonicNs);
    await walk(table, look, () => {});
    this.#keep(look);
    return firstWindowMs;
  }

  /** Largest first. Without a look to compare with, rates are means since each flow was first seen. */
  async largest(table: FlowTableView, count: number, by: FlowOrder): Promise<LargeFlow[]> {
    const { monotonicNs, jiffies, nsPerJiffy } = table.clock();
    const earlier = this.#comparable(monotonicNs);
    const look = newLook(table, monotonicNs);
    const heap = new Largest(count);
    const windowMs = earlier === null ? 0 : ageOf(earlier, monotonicNs);
    const nowJiffies = Number(jiffies & 0xffff_ffffn);
    const entriesOfSlice = table.length / table.sliceCount;
    const rateOf = (entry: number): number => {
      const bytes = look.bytes[entry]!;
      const created = look.created[entry]!;
      if (earlier === null) {
        // A packet may have come after the clock was read.
        const lived = (Math.max(0, (nowJiffies - created) | 0) + 1) * (nsPerJiffy / 1e9);
        return (8 * bytes) / lived;
      }
      const isSame = earlier.created[entry] === created && earlier.bytes[entry]! <= bytes;
      const slice = Math.floor(entry / entriesOfSlice);
      const sinceMs = windowMs + look.slicesMs[slice]! - earlier.slicesMs[slice]!;
      return (8000 * (isSame ? bytes - earlier.bytes[entry]! : bytes)) / sinceMs;
    };
    const bytesOf = (entry: number): number => look.bytes[entry]!;
    const packetsOf = (entry: number, { u32, first }: FlowSlice): number => {
      const base = (entry - first) * words + at.packets;
      return u32[base + low]! + u32[base + high]! * 2 ** 32;
    };
    const sizeOf = { bytes: bytesOf, packets: packetsOf, rate: rateOf }[by];
    await walk(table, look, (entry, slice) => heap.offer(sizeOf(entry, slice), entry));
    const flows = heap.sorted().map((entry): LargeFlow => ({ entry, bitsPerSecond: rateOf(entry) }));
    if (this.#last === null || ageOf(this.#last, monotonicNs) >= keepMs) this.#keep(look);
    return flows;
  }

  /** The newest look that is long enough ago. */
  #comparable(nowNs: bigint): Look | null {
    const isFit = (look: Look | null): boolean => {
      const ageMs = look === null ? 0 : ageOf(look, nowNs);
      return ageMs >= leastWindowMs && ageMs <= longestWindowMs;
    };
    if (isFit(this.#last)) return this.#last;
    return isFit(this.#before) ? this.#before : null;
  }

  #keep(look: Look): void {
    this.#before = this.#last;
    this.#last = look;
    clearTimeout(this.#forgetting);
    this.#forgetting = setTimeout(() => {
      this.#before = null;
      this.#last = null;
    }, longestWindowMs).unref();
  }
}

function newLook({ length, sliceCount }: FlowTableView, monotonicNs: bigint): Look {
  return {
    monotonicNs,
    slicesMs: new Float64Array(sliceCount),
    bytes: new Float64Array(length),
    created: new Uint32Array(length),
  };
}

function ageOf(look: Look, nowNs: bigint): number {
  return Number(nowNs - look.monotonicNs) / 1e6;
}

/** Fills the look. An entry without a flow gets no bytes, so that the next flow there counts as a whole. */
async function walk(table: FlowTableView, look: Look, visit: (entry: number, slice: FlowSlice) => void): Promise<void> {
  let number = 0;
  await walkInTurns(table, (slice) => {
    const { first, tags, u32 } = slice;
    look.slicesMs[number++] = ageOf(look, table.clock().monotonicNs);
    for (let index = 0; index < tags.length; index++) {
      if (!holdsFlow(tags[index]!)) continue;
      const entry = first + index;
      const base = index * words;
      look.bytes[entry] = u32[base + at.bytes + low]! + u32[base + at.bytes + high]! * 2 ** 32;
      look.created[entry] = u32[base + at.created + low]!;
      visit(entry, slice);
    }
  });
}
