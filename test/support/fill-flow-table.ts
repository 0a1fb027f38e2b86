// SPDX-License-Identifier: Apache-2.0
/** Puts flows into a flow table as packets would leave them there, faster than packets come. */
import type { Dataplane } from '../../src/app/dataplane.ts';
import { VnicFlow, VnicLimits } from '../../src/maps/generated/abi.ts';

/** A flow in every place of a stride, `count` in all, none as large as another. */
export function fillFlowTable(dataplane: Dataplane, count: number): void {
  const { flows, flowSets } = dataplane;
  const every = Math.floor(flows.length / count);
  if (every < 1) throw new Error(`${count} flows do not fit ${flows.length} places`);
  using entries = flows.window(0, flows.length);
  const data = new DataView(entries.bytes.buffer, entries.bytes.byteOffset, entries.bytes.byteLength);
  for (let index = 0; index < count; index++) {
    const entry = index * every;
    // Sizes in an order that has nothing to do with the places.
    const packets = BigInt(1 + (Math.imul(index, 0x9e3779b1) >>> 0));
    const src = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, index >> 16, (index >> 8) & 255, index & 255);
    VnicFlow.write(data, entry * VnicFlow.size, {
      key: { src: { bytes: src }, dst: { bytes: src }, sport: 4000, dport: 7000, proto: 17 },
      packets,
      bytes: 128n * packets,
      createdJiffies: 1n,
      lastSeenJiffies: 1n,
    });
    const [set, way] = [Math.floor(entry / VnicLimits.flowWays), entry % VnicLimits.flowWays];
    flowSets.storeU32(set, 4 * way, 77);
  }
}
