// SPDX-License-Identifier: Apache-2.0
/**
 * What those share that walk through the entries of the mapped flow table: slice by slice, with turns for other work in
 * between, while packets go on.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { hostLittleEndian } from '../maps/codec.ts';
import { VnicLimits } from '../maps/generated/abi.ts';

/** Where the halves of a u64 are, in words of 32 bits: two halves make a double and cost no bigint. */
export const [lowHalf, highHalf] = hostLittleEndian ? ([0, 1] as const) : ([1, 0] as const);

/** Both clocks of the dataplane at one moment. */
export interface FlowClock {
  jiffies: bigint;
  nsPerJiffy: number;
  /** CLOCK_MONOTONIC */
  monotonicNs: bigint;
}

/** Entries that follow each other, in place. */
export interface FlowSlice {
  /** Number of the first entry. */
  first: number;
  /** Tag of each entry; 0: free, VnicLimits.flowTagBusy: being written. */
  tags: Uint32Array;
  /** The entries: struct vnic_flow, one behind the other, in three views. */
  bytes: Uint8Array;
  u32: Uint32Array;
  u64: BigUint64Array;
}

export interface FlowTableView {
  /** Entries, free ones included. */
  readonly length: number;
  readonly sliceCount: number;
  clock(): FlowClock;
  /** The slice is valid during the call only. */
  visit(slice: number, visit: (slice: FlowSlice) => void): void;
}

/** One walk at one go. */
export function walk(table: FlowTableView, visit: (slice: FlowSlice) => void): void {
  for (let slice = 0; slice < table.sliceCount; slice++) table.visit(slice, visit);
}

/** Other work waits no longer than for this, and one slice. */
const TURN_MS = 4;

/** One walk; slice after slice, and whoever waits for this thread gets a turn every few milliseconds. */
export async function walkInTurns(
  table: FlowTableView,
  visit: (slice: FlowSlice) => void,
  slices: Iterable<number> = Array.from({ length: table.sliceCount }).keys(),
): Promise<void> {
  let since = performance.now();
  for (const slice of slices) {
    table.visit(slice, visit);
    if (performance.now() - since < TURN_MS) continue;
    await turn();
    since = performance.now();
  }
}

/** Whether an entry holds a flow, by its tag: it is neither free nor being written. */
export function holdsFlow(tag: number): boolean {
  return tag !== 0 && tag !== VnicLimits.flowTagBusy;
}

/** Keeps the largest of what it is offered: a binary heap with the smallest of them on top. */
export class Largest {
  readonly #count: number;
  readonly #sizes: number[] = [];
  readonly #entries: number[] = [];

  constructor(count: number) {
    this.#count = count;
  }

  offer(size: number, entry: number): void {
    const sizes = this.#sizes;
    if (sizes.length < this.#count) {
      sizes.push(size);
      this.#entries.push(entry);
      this.#rise(sizes.length - 1);
    } else if (size > (sizes[0] ?? Number.POSITIVE_INFINITY)) {
      sizes[0] = size;
      this.#entries[0] = entry;
      this.#sink(0);
    }
  }

  /** Entries, largest first. */
  sorted(): number[] {
    return this.#entries
      .map((entry, index) => ({ entry, size: this.#sizes[index]! }))
      .sort((a, b) => b.size - a.size)
      .map(({ entry }) => entry);
  }

  #rise(start: number): void {
    for (let child = start; child > 0; ) {
      const parent = (child - 1) >> 1;
      if (this.#sizes[parent]! <= this.#sizes[child]!) return;
      this.#swap(parent, child);
      child = parent;
    }
  }

  #sink(start: number): void {
    for (let parent = start; ; ) {
      let least = parent;
      for (const child of [2 * parent + 1, 2 * parent + 2]) {
        if (child < this.#sizes.length && this.#sizes[child]! < this.#sizes[least]!) least = child;
      }
      if (least === parent) return;
      this.#swap(parent, least);
      parent = least;
    }
  }

  #swap(a: number, b: number): void {
    for (const list of [this.#sizes, this.#entries]) {
      const value = list[a]!;
      list[a] = list[b]!;
      list[b] = value;
    }
  }
}
