// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { FlowMeter } from '../../src/app/flow-meter.ts';
import { VnicFlow, VnicLimits } from '../../src/maps/generated/abi.ts';
import { FlowTableMemory } from '../support/flow-table-memory.ts';

/** A flow table that a test fills. */
function tableOf(entries: number) {
  const view = new FlowTableMemory(entries);
  return {
    view,
    set(entry: number, flow: { bytes: number; packets?: number; created?: number }): void {
      view.tags[entry] = 77;
      VnicFlow.put(view.data, entry * VnicFlow.size, {
        bytes: BigInt(flow.bytes),
        packets: BigInt(flow.packets ?? 1),
        createdJiffies: BigInt(flow.created ?? 500),
      });
    },
    pass: (ms: number): void => view.pass(ms),
  };
}

describe('the rates of flows', () => {
  it('are of what came since an earlier look, not of the whole life of the flow', async () => {
    const table = tableOf(16);
    table.set(3, { bytes: 1_000_000 });
    table.set(5, { bytes: 1000 });
    const meter = new FlowMeter();
    assert.equal(await meter.prepare(table.view), 250, 'a first look needs a second');
    table.pass(250);
    table.set(5, { bytes: 26_000 });
    assert.equal(await meter.prepare(table.view), 0);
    assert.deepEqual(await meter.largest(table.view, 5, 'rate'), [
      { entry: 5, bitsPerSecond: 800_000 },
      { entry: 3, bitsPerSecond: 0 },
    ]);
    assert.deepEqual(
      (await meter.largest(table.view, 1, 'bytes')).map(({ entry }) => entry),
      [3],
    );
  });

  it('take a flow that has the entry of another one as new', async () => {
    const table = tableOf(8);
    table.set(1, { bytes: 5_000_000 });
    const meter = new FlowMeter();
    await meter.prepare(table.view);
    table.pass(500);
    table.set(1, { bytes: 6_000_000, created: 1010 });
    assert.deepEqual(await meter.largest(table.view, 1, 'rate'), [{ entry: 1, bitsPerSecond: 96_000_000 }]);
  });

  it('compare over a window of 0.2 s to some seconds, however often they are asked for', async () => {
    const table = tableOf(8);
    const meter = new FlowMeter();
    let bytes = 0;
    table.set(0, { bytes });
    await meter.prepare(table.view);
    for (let step = 0; step < 200; step++) {
      table.pass(50);
      bytes += 5000;
      table.set(0, { bytes });
      const waitMs = await meter.prepare(table.view);
      if (step < 3) assert.ok(waitMs > 0 && waitMs <= 200, `${waitMs}`);
      else assert.equal(Math.round((await meter.largest(table.view, 1, 'rate'))[0]!.bitsPerSecond), 800_000);
    }
  });

  it('are not measured against a look of long ago', async () => {
    const table = tableOf(8);
    const meter = new FlowMeter();
    await meter.prepare(table.view);
    table.pass(60_000);
    assert.equal(await meter.prepare(table.view), 250);
  });

  it('come with the largest flows of any order, and entries that are being written are left out', async () => {
    const table = tableOf(1000);
    for (let entry = 0; entry < 1000; entry++) table.set(entry, { bytes: (entry * 7919) % 1009, packets: entry });
    table.view.tags[999] = VnicLimits.flowTagBusy;
    table.view.tags[998] = 0;
    const meter = new FlowMeter();
    assert.deepEqual(
      (await meter.largest(table.view, 3, 'packets')).map(({ entry }) => entry),
      [997, 996, 995],
    );
    const byBytes = (await meter.largest(table.view, 50, 'bytes')).map(({ entry }) => (entry * 7919) % 1009);
    const all = Array.from({ length: 998 }, (_, entry) => (entry * 7919) % 1009).sort((a, b) => b - a);
    assert.deepEqual(byBytes, all.slice(0, 50));
  });

  it('of a million entries are found in turns: what waits meanwhile is not kept waiting to the end', async () => {
    const view = new FlowTableMemory(2 ** 20, { sliceCount: 128 });
    view.tags.fill(77);
    let turns = 0;
    let isOver = false;
    const others = async (): Promise<void> => {
      for (; !isOver; turns++) await new Promise((resolve) => setImmediate(resolve));
    };
    const waiting = others();
    const largest = await new FlowMeter().largest(view, 20, 'bytes');
    isOver = true;
    await waiting;
    assert.equal(largest.length, 20);
    // One turn would come at the end of a walk at one go.
    assert.ok(turns > 3, `${turns} turns`);
  });
});
