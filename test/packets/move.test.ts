// SPDX-License-Identifier: Apache-2.0
/** Flows that change their queue. BPF_PROG_RUN stops short of the CPUMAP, so what comes out of it is written by hand. */
import assert from 'node:assert/strict';
import { onlineCpus } from '../../src/app/machine.ts';
import { VnicFlow, VnicLimits, VnicMeta } from '../../src/maps/generated/abi.ts';
import type { SteeringTable } from '../../src/steering/table.ts';
import { TestDataplane, XDP } from '../support/dataplane.ts';
import { frameOf, tableOf } from '../support/moving-flows.ts';

const SETTLE_MS = 60_000;
const [UDP, TCP] = [17, 6];
const OLD = 3;
const NEW = 9;
const cpu = onlineCpus().at(-1)!.cpu;

describe('a flow that changes its queue', function () {
  // A machine that stops for some jiffies between two packets makes a pause of them; a fault fails each time.
  this.retries(2);
  let test: TestDataplane;

  beforeEach(() => {
    test = new TestDataplane({ maxFlows: 64, latencySampleShift: 16 });
    test.dataplane.cpus.set(cpu, { qsize: 64, progFd: test.dataplane.program('vnic_cpu') });
    test.dataplane.setQueueCpus(Array<number>(32).fill(cpu));
    test.setTable(tableOf(OLD));
    // The first of each CPU has its latency measured.
    test.ingress(frameOf(UDP, 9));
    test.ingress(frameOf(TCP, 9));
  });
  afterEach(() => test.close());

  /** Makes a table active; flows have so long to leave usable queues in order. */
  function change(table: SteeringTable, settleMs: number): void {
    test.tables.activate(test.tables.prepare(table), { settleMs });
  }

  /** Where the flow's next packet goes, and the marker that it carries. */
  function send(frame: Uint8Array): { queue: number; marker: number; meta: VnicMeta | null } {
    const { queue } = test.explain(frame);
    const { returnValue, output } = test.ingressWithOutput(frame);
    assert.equal(returnValue, XDP.redirect);
    const meta = output.length > frame.length ? VnicMeta.decode(output) : null;
    const used = entry(frame).queue;
    assert.equal(queue, used, 'explain says the same');
    return { queue: used, marker: meta?.marker ?? 0, meta };
  }

  function indexOf(frame: Uint8Array): number {
    const { flows } = test.dataplane;
    const { hash } = test.explain(frame);
    const index = Array.from({ length: flows.length }, (_, at) => at).find(
      (at) => flows.read(at).hash === hash && flows.read(at).packets > 0n,
    );
    assert.ok(index !== undefined, 'the flow is in the table');
    return index;
  }

  const entry = (frame: Uint8Array): VnicFlow => test.dataplane.flows.read(indexOf(frame));

  /** As vnic_cpu does when the marker comes out of the CPUMAP entry. */
  function drain(frame: Uint8Array, marker: number, agoNs: number): void {
    const index = indexOf(frame);
    const at = process.hrtime.bigint() - BigInt(agoNs);
    test.dataplane.flows.storeU64(index, VnicFlow.offsets.drainedNs, at);
    test.dataplane.flows.storeU32(index, VnicFlow.offsets.drained, marker);
  }

  function idle(frame: Uint8Array): void {
    test.dataplane.flows.storeU64(indexOf(frame), VnicFlow.offsets.lastSeenJiffies, 1n);
  }

  function moves() {
    const { movesInOrder, movesForced, movesRisked, heldPackets } = test.counters();
    return [movesInOrder, movesForced, movesRisked, heldPackets].map(Number);
  }

  it('stays on the former queue until its last packet came out of it', () => {
    const frame = frameOf(UDP);
    assert.deepEqual(send(frame), { queue: OLD, marker: 0, meta: null });
    change(tableOf(NEW), SETTLE_MS);
    const first = send(frame);
    assert.equal(first.queue, OLD);
    assert.deepEqual(
      [first.meta?.magic, first.meta?.queue, first.meta?.flow, first.marker],
      [VnicLimits.metaMagic, OLD, indexOf(frame), 2],
    );
    const second = send(frame);
    assert.deepEqual([second.queue, second.marker], [OLD, 3], 'nothing came out yet');
    drain(frame, first.marker, 1e9);
    const third = send(frame);
    assert.deepEqual([third.queue, third.marker], [OLD, 4], 'the second one did not');
    drain(frame, third.marker, 1e9);
    assert.deepEqual(send(frame), { queue: NEW, marker: 0, meta: null });
    assert.deepEqual(moves(), [1, 0, 0, 3]);
    assert.equal(send(frame).queue, NEW);
  });

  it('gives what came out of the CPUMAP entry time to be delivered, TCP more because of GRO', () => {
    for (const [proto, deliveryMs, doneMs] of [
      [UDP, 0, 1.5],
      [TCP, 1.5, 200],
    ] as const) {
      const frame = frameOf(proto);
      change(tableOf(OLD), 0);
      idle(frameOf(proto, 9));
      send(frame);
      change(tableOf(NEW), SETTLE_MS);
      drain(frame, send(frame).marker, deliveryMs * 1e6);
      const held = send(frame);
      assert.equal(held.queue, OLD, `protocol ${proto}, ${deliveryMs} ms`);
      drain(frame, held.marker, doneMs * 1e6);
      assert.equal(send(frame).queue, NEW, `protocol ${proto}, ${doneMs} ms`);
    }
  });

  it('leaves at once when it was idle for longer than a queue holds anything', () => {
    const frame = frameOf(UDP);
    send(frame);
    change(tableOf(NEW), SETTLE_MS);
    idle(frame);
    assert.equal(send(frame).queue, NEW);
    assert.deepEqual(moves(), [1, 0, 0, 0]);
  });

  it('leaves a lost queue at once', () => {
    const frame = frameOf(UDP);
    send(frame);
    change(tableOf(NEW, [OLD]), SETTLE_MS);
    assert.equal(send(frame).queue, NEW);
    assert.deepEqual(moves(), [0, 1, 0, 0]);
  });

  it('leaves a queue that is lost while it waits', () => {
    const frame = frameOf(UDP);
    send(frame);
    change(tableOf(NEW), SETTLE_MS);
    assert.equal(send(frame).queue, OLD);
    change(tableOf(NEW, [OLD]), 0);
    assert.equal(send(frame).queue, NEW);
    assert.deepEqual(moves(), [0, 1, 0, 1]);
  });

  it('leaves when the deadline is over, and that is counted as a risk', () => {
    const frame = frameOf(UDP);
    send(frame);
    change(tableOf(NEW), 0);
    assert.equal(send(frame).queue, NEW);
    assert.deepEqual(moves(), [0, 0, 1, 0]);
  });

  it('goes on where it is when the table takes the change back', () => {
    const frame = frameOf(UDP);
    send(frame);
    change(tableOf(NEW), SETTLE_MS);
    drain(frame, send(frame).marker, 1e9);
    change(tableOf(OLD), SETTLE_MS);
    assert.deepEqual(send(frame), { queue: OLD, marker: 0, meta: null });
    // The packet after the acknowledged one was no marker: it may be in the queue still.
    change(tableOf(NEW), SETTLE_MS);
    assert.equal(send(frame).queue, OLD);
    assert.deepEqual(moves(), [0, 0, 0, 2]);
  });

  it('is not moved by a packet that is dropped', () => {
    const frame = frameOf(UDP);
    send(frame);
    change(tableOf(NEW, [OLD]), 0);
    test.setRules([{ id: 1, priority: 0, direction: 'ingress', match: {}, action: 'drop', shadow: false }]);
    assert.equal(test.ingress(frame), XDP.drop);
    assert.deepEqual([entry(frame).queue, moves()], [OLD, [0, 0, 0, 0]]);
    test.setRules([]);
    assert.equal(send(frame).queue, NEW);
  });

  it('does not matter to a flow that begins', () => {
    change(tableOf(NEW), SETTLE_MS);
    assert.deepEqual(send(frameOf(UDP)), { queue: NEW, marker: 0, meta: null });
    assert.deepEqual(moves(), [0, 0, 0, 0]);
  });
});
