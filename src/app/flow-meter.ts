// SPDX-License-Identifier: Apache-2.0
/**
 * The largest flows of the mapped flow table, and how fast each is lately: what it counts now against an earlier look.
 * Walks the table in place while packets go on; nothing is stopped or copied. Holds 12 bytes for each entry and look.
 */
import { VnicFlow } from '../maps/generated/abi.ts';
import { highHalf as high, holdsFlow, Largest, lowHalf as low } from '../telemetry/flow-entries.ts';
import type { FlowTableView } from './flow-table.ts';

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
  monotonicNs: bigint;
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
  #spare: Look | null = null;

  /** Looks, if there is no look to compare the next one with; gives how long to wait for that one, in ms. */
  prepare(view: FlowTableView): number {
    if (this.#comparable(view.monotonicNs) !== null) return 0;
    const ageMs = this.#last === null ? Number.POSITIVE_INFINITY : ageOf(this.#last, view.monotonicNs);
    if (ageMs <= leastWindowMs) return leastWindowMs - ageMs;
    const look = this.#takeSpare(view.tags.length);
    walk(view, look, () => {});
    this.#keep(look);
    return firstWindowMs;
  }

  /** Largest first. Without a look to compare with, rates are means since each flow was first seen. */
  largest(view: FlowTableView, count: number, by: FlowOrder): LargeFlow[] {
    const earlier = this.#comparable(view.monotonicNs);
    const look = this.#takeSpare(view.tags.length);
    const heap = new Largest(count);
    const seconds = earlier === null ? 0 : ageOf(earlier, view.monotonicNs) / 1000;
    const nowJiffies = Number(view.jiffies & 0xffff_ffffn);
    const u32 = wordsOf(view);
    const rateOf = (entry: number): number => {
      const bytes = look.bytes[entry]!;
      const created = look.created[entry]!;
      if (earlier === null) {
        const lived = (((nowJiffies - created) >>> 0) + 1) * (view.nsPerJiffy / 1e9);
        return (8 * bytes) / lived;
      }
      const isSame = earlier.created[entry] === created && earlier.bytes[entry]! <= bytes;
      return (8 * (isSame ? bytes - earlier.bytes[entry]! : bytes)) / seconds;
    };
    const packetsOf = (entry: number): number => {
      const base = entry * words + at.packets;
      return u32[base + low]! + u32[base + high]! * 2 ** 32;
    };
    const bytesOf = (entry: number): number => look.bytes[entry]!;
    const sizeOf = { bytes: bytesOf, packets: packetsOf, rate: rateOf }[by];
    walk(view, look, (entry) => heap.offer(sizeOf(entry), entry));
    const flows = heap.sorted().map((entry): LargeFlow => ({ entry, bitsPerSecond: rateOf(entry) }));
    if (this.#last === null || ageOf(this.#last, view.monotonicNs) >= keepMs) this.#keep(look);
    else this.#spare = look;
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

  #takeSpare(entries: number): Look {
    const spare = this.#spare;
    this.#spare = null;
    if (spare?.bytes.length === entries) return spare;
    return { monotonicNs: 0n, bytes: new Float64Array(entries), created: new Uint32Array(entries) };
  }

  #keep(look: Look): void {
    this.#spare = this.#before;
    this.#before = this.#last;
    this.#last = look;
  }
}

function ageOf(look: Look, nowNs: bigint): number {
  return Number(nowNs - look.monotonicNs) / 1e6;
}

function wordsOf({ entries }: FlowTableView): Uint32Array {
  return new Uint32Array(entries.buffer, entries.byteOffset, entries.byteLength / 4);
}

/** Fills the look. An entry without a flow gets no bytes, so that the next flow there counts as a whole. */
function walk(view: FlowTableView, look: Look, visit: (entry: number) => void): void {
  const { tags } = view;
  const u32 = wordsOf(view);
  look.monotonicNs = view.monotonicNs;
  for (let entry = 0; entry < tags.length; entry++) {
    if (!holdsFlow(tags[entry]!)) {
      look.bytes[entry] = 0;
      look.created[entry] = 0;
      continue;
    }
    const base = entry * words;
    look.bytes[entry] = u32[base + at.bytes + low]! + u32[base + at.bytes + high]! * 2 ** 32;
    look.created[entry] = u32[base + at.created + low]!;
    visit(entry);
  }
}
