// SPDX-License-Identifier: Apache-2.0
/** The mapped flow table in place, to be walked while packets go on. */
import { ProgramRunner } from '../loader/program.ts';
import { VnicClock, VnicFlowSet } from '../maps/generated/abi.ts';
import type { Dataplane } from './dataplane.ts';
import { jiffyNs } from './machine.ts';

/** The flow table in place, and both clocks at one moment. */
export interface FlowTableView {
  /** Tag of each entry; 0: free, VnicLimits.flowTagBusy: being written. */
  tags: Uint32Array;
  /** The entries: struct vnic_flow, one behind the other. */
  entries: BigUint64Array;
  jiffies: bigint;
  nsPerJiffy: number;
  /** CLOCK_MONOTONIC */
  monotonicNs: bigint;
}

/** The table of a dataplane, in place: valid until the dataplane is closed. */
export function flowTableView(dataplane: Dataplane): FlowTableView {
  const { native, flows, flowSets } = dataplane;
  const runner = new ProgramRunner(native, dataplane.program('vnic_clock'), { maxInputBytes: 64, outputBytes: 64 });
  runner.run(new Uint8Array(64));
  const { jiffies, monotonicNs } = VnicClock.decode(runner.output);
  const sets = flowSets.asBigUint64();
  const tagCount = (flowSets.length * VnicFlowSet.size) / 4;
  return {
    tags: new Uint32Array(sets.buffer, sets.byteOffset, tagCount),
    entries: flows.asBigUint64(),
    jiffies,
    monotonicNs,
    nsPerJiffy: jiffyNs(native),
  };
}
