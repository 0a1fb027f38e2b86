// SPDX-License-Identifier: Apache-2.0
/** A flow table in plain memory that a test fills, with a clock that it moves. */
import { VnicFlow } from '../../src/maps/generated/abi.ts';
import type { FlowClock, FlowSlice, FlowTableView } from '../../src/telemetry/flow-entries.ts';

export class FlowTableMemory implements FlowTableView {
  readonly length: number;
  readonly sliceCount: number;
  readonly tags: Uint32Array;
  readonly data: DataView<ArrayBuffer>;
  jiffies: bigint;
  monotonicNs: bigint;
  readonly nsPerJiffy = 4_000_000;

  /** @param sliceCount divides the number of entries */
  constructor(entries: number, { sliceCount = 4, jiffies = 1000n, monotonicNs = 1_000_000_000n } = {}) {
    this.length = entries;
    this.sliceCount = entries % sliceCount === 0 ? sliceCount : 1;
    this.tags = new Uint32Array(entries);
    this.data = new DataView(new ArrayBuffer(entries * VnicFlow.size));
    this.jiffies = jiffies;
    this.monotonicNs = monotonicNs;
  }

  clock(): FlowClock {
    const { jiffies, nsPerJiffy, monotonicNs } = this;
    return { jiffies, nsPerJiffy, monotonicNs };
  }

  visit(slice: number, visit: (slice: FlowSlice) => void): void {
    const count = this.length / this.sliceCount;
    const first = slice * count;
    const [at, length] = [first * VnicFlow.size, count * VnicFlow.size];
    const { buffer } = this.data;
    visit({
      first,
      tags: this.tags.subarray(first, first + count),
      bytes: new Uint8Array(buffer, at, length),
      u32: new Uint32Array(buffer, at, length / 4),
      u64: new BigUint64Array(buffer, at, length / 8),
    });
  }

  pass(ms: number): void {
    this.monotonicNs += BigInt(Math.round(ms * 1e6));
    this.jiffies += BigInt(Math.round(ms / 4));
  }
}
