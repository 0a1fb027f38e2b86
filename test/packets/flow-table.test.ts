// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readFlows } from '../../src/app/flows.ts';
import type { ReplayFlowKey } from '../../src/captures/replay.ts';
import { TestDataplane } from '../support/dataplane.ts';
import { below, flowFrame, randomFlow } from '../support/flow-frames.ts';
import { randomSource } from '../support/random.ts';
import { resultText } from '../support/reference-parser.ts';

interface Counted {
  packets: number;
  bytes: number;
}

/** Sends a packet of the flow and counts it. */
function send(dataplane: TestDataplane, sent: Map<string, Counted>, flow: ReplayFlowKey, frameBytes = 60): void {
  const frame = flowFrame(flow, frameBytes);
  dataplane.ingress(frame);
  const name = resultText(flow);
  const counted = sent.get(name) ?? { packets: 0, bytes: 0 };
  sent.set(name, { packets: counted.packets + 1, bytes: counted.bytes + frame.length });
}

function distinctFlows(seed: number, count: number): ReplayFlowKey[] {
  const random = randomSource(seed);
  const flows = new Map<string, ReplayFlowKey>();
  while (flows.size < count) {
    const flow = randomFlow(random);
    flows.set(resultText(flow), flow);
  }
  return [...flows.values()];
}

describe('flow table', () => {
  it('100,000 flows in a table for 262,144 are all there, with exact packets and bytes', function () {
    this.timeout(120_000);
    using dataplane = new TestDataplane({ maxFlows: 262_144 });
    assert.equal(dataplane.dataplane.maxFlows, 262_144);
    const random = randomSource(1);
    const flows = distinctFlows(2, 100_000);
    const sent = new Map<string, Counted>();
    for (const flow of flows) send(dataplane, sent, flow);
    for (let count = 0; count < 100_000; count++) {
      send(dataplane, sent, flows[below(random, flows.length)]!, 60 + below(random, 200));
    }
    const { flowsCreated, flowsEvicted, flowTableBusy, rxPackets } = dataplane.counters();
    // A set overflows now and then; what goes missing must be said.
    const found = dataplane.flows();
    assert.equal(flowTableBusy, 0n);
    assert.equal(rxPackets, 200_000n);
    assert.equal(BigInt(found.size), flowsCreated - flowsEvicted);
    assert.equal(flowsEvicted, 0n, 'eight ways hold 100,000 flows in 32,768 sets');
    assert.equal(found.size, 100_000);
    for (const [name, { packets, bytes }] of sent) {
      const entry = found.get(name);
      assert.deepEqual([entry?.flow.packets, entry?.flow.bytes], [BigInt(packets), BigInt(bytes)], name);
    }
  });

  it('an overfull table loses whole flows, says how many, and never counts a packet twice', () => {
    using dataplane = new TestDataplane({ maxFlows: 1024 });
    const sent = new Map<string, Counted>();
    const random = randomSource(3);
    const flows = distinctFlows(4, 20_000);
    let last = flows[0]!;
    for (let count = 0; count < 40_000; count++) {
      last = flows[below(random, flows.length)]!;
      send(dataplane, sent, last);
      if (count % 997 === 0)
        assert.ok(dataplane.flows().has(resultText(last)), 'the last packet is always in the table');
    }
    const { flowsCreated, flowsEvicted, flowTableBusy } = dataplane.counters();
    const found = readFlows(dataplane.dataplane);
    assert.equal(flowTableBusy, 0n);
    assert.equal(BigInt(found.length), flowsCreated - flowsEvicted);
    assert.equal(
      new Set(found.map(({ flow }) => Buffer.from(flow.key.src.bytes).toString('hex') + JSON.stringify(flow.key))).size,
      found.length,
    );
    assert.ok(found.length <= 1024 && found.length > 1000, `${found.length} flows`);
    for (const [name, { flow }] of dataplane.flows()) {
      assert.ok(flow.packets <= BigInt(sent.get(name)!.packets), name);
      assert.equal(flow.bytes % flow.packets, 0n);
    }
  });

  it('a flood of single packets evicts no flow that had more than one in the last second', function () {
    this.timeout(30_000);
    using dataplane = new TestDataplane({ maxFlows: 8 * 256 });
    const kept = distinctFlows(5, 512);
    const random = randomSource(6);
    const sent = new Map<string, Counted>();
    let elapsedMs: number;
    let flood: number;
    do {
      dataplane.clear();
      for (const flow of [...kept, ...kept]) send(dataplane, sent, flow);
      const start = performance.now();
      for (flood = 0; performance.now() - start < 800; flood += 500) {
        for (let count = 0; count < 500; count++) dataplane.ingress(flowFrame(randomFlow(random)));
      }
      elapsedMs = performance.now() - start;
      // Later than a second the promise is over: the machine stood still, so try again.
    } while (elapsedMs > 1000);
    const { flowsEvicted } = dataplane.counters();
    assert.ok(flood > 20_000, `only ${flood} packets`);
    assert.ok(flowsEvicted >= BigInt(flood - 8 * 256), `${flowsEvicted} evicted`);
    const found = dataplane.flows();
    const missing = kept.filter((flow) => found.get(resultText(flow))?.flow.packets !== 2n);
    assert.equal(missing.length, 0, `${missing.length} of ${kept.length} flows are gone`);
  });

  it('a flow that fell silent longer ago than that makes room', function () {
    this.timeout(20_000);
    using dataplane = new TestDataplane({ maxFlows: 8 });
    const sent = new Map<string, Counted>();
    const [old, ...flows] = distinctFlows(7, 8);
    for (const flow of [old!, ...flows]) {
      send(dataplane, sent, flow);
      send(dataplane, sent, flow);
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1200);
    for (const flow of flows) send(dataplane, sent, flow);
    const [fresh] = distinctFlows(8, 1);
    send(dataplane, sent, fresh!);
    const names = [...dataplane.flows().keys()];
    assert.ok(!names.includes(resultText(old!)), 'the silent flow should have gone');
    assert.deepEqual(new Set(names), new Set([...flows, fresh!].map(resultText)));
    assert.equal(dataplane.counters().flowsEvicted, 1n);
  });
});
