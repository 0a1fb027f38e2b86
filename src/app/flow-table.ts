// SPDX-License-Identifier: Apache-2.0
/** The mapped flow table in place, to be walked while packets go on. */
import { ProgramRunner } from '../loader/program.ts';
import { VnicClock, type VnicFlow, type VnicFlowSet, VnicLimits } from '../maps/generated/abi.ts';
import { BpfMap, MappedArray } from '../maps/index.ts';
import type { FlowClock, FlowSlice, FlowTableView } from '../telemetry/flow-entries.ts';
import type { Dataplane } from './dataplane.ts';
import { jiffyNs } from './machine.ts';

/** Sets of a slice: a mebibyte of entries is mapped at a time, and takes a fraction of a millisecond. */
const SLICE_SETS = 1024;

/** Both clocks at one moment, as the programs see them. */
function readClock(dataplane: Dataplane): FlowClock {
  const { native } = dataplane;
  const runner = new ProgramRunner(native, dataplane.program('vnic_clock'), { maxInputBytes: 64, outputBytes: 64 });
  runner.run(new Uint8Array(64));
  const { jiffies, monotonicNs } = VnicClock.decode(runner.output);
  return { jiffies, monotonicNs, nsPerJiffy: jiffyNs(native) };
}

/** Has the maps to itself: a walk may go on after the dataplane was closed here. */
export class FlowTable implements FlowTableView, Disposable {
  readonly length: number;
  readonly sliceCount: number;
  readonly #flows: MappedArray<VnicFlow>;
  readonly #sets: MappedArray<VnicFlowSet>;
  readonly #opened: FlowClock;

  constructor(dataplane: Dataplane) {
    const { native } = dataplane;
    const own = <T>({ map, codec }: MappedArray<T>): MappedArray<T> =>
      new MappedArray(native, BpfMap.fromFd(native, map.fd.value), codec, { onDemand: true });
    this.#opened = readClock(dataplane);
    this.#flows = own(dataplane.flows);
    this.#sets = own(dataplane.flowSets);
    this.length = this.#flows.length;
    this.sliceCount = Math.ceil(this.#sets.length / SLICE_SETS);
  }

  clock(): FlowClock {
    const { jiffies, monotonicNs, nsPerJiffy } = this.#opened;
    const nowNs = process.hrtime.bigint();
    const passed = BigInt(Math.floor(Number(nowNs - monotonicNs) / nsPerJiffy));
    return { jiffies: jiffies + passed, monotonicNs: nowNs, nsPerJiffy };
  }

  visit(slice: number, visit: (slice: FlowSlice) => void): void {
    const firstSet = slice * SLICE_SETS;
    const setCount = Math.min(SLICE_SETS, this.#sets.length - firstSet);
    const first = firstSet * VnicLimits.flowWays;
    using sets = this.#sets.window(firstSet, setCount);
    using flows = this.#flows.window(first, setCount * VnicLimits.flowWays);
    const { bytes, u32, u64 } = flows;
    visit({ first, tags: sets.u32, bytes, u32, u64 });
  }

  close(): void {
    for (const array of [this.#flows, this.#sets]) {
      array.close();
      array.map.close();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
