// SPDX-License-Identifier: Apache-2.0
/** Packets that arrive on their own queue are passed there, and a flow keeps its order when its packets change their way. */
import assert from 'node:assert/strict';
import { deviceShape, jiffyNs, onlineCpus } from '../../src/app/machine.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { VnicControl, VnicFlow, VnicLimits, VnicMeta } from '../../src/maps/generated/abi.ts';
import type { SteeringTable } from '../../src/steering/table.ts';
import { removeNamespace, run, runInNamespace } from '../rig/namespaces.ts';
import { forgetFlows, TestDataplane, XDP } from '../support/dataplane.ts';
import { frameOf, tableOf } from '../support/moving-flows.ts';
import { runOnCpus } from '../support/run-on-cpus.ts';
import { skip } from '../support/skip.ts';

const QUEUES = 32;
const SETTLE_MS = 60_000;
const [UDP, TCP] = [17, 6];
const [MINE, OTHER, THIRD] = [7, 3, 9];
const cpus = onlineCpus().map((online) => online.cpu);
/** Of all queues, and the one that packets arrive on. */
const cpu = cpus.at(-1)!;
const namespace = `vnic-direct-${process.pid}`;

describe('packets that arrive on their own queue', function () {
  // A machine that stops for some jiffies between two packets makes a pause of them; a fault fails each time.
  this.retries(2);
  let test: TestDataplane;
  let ifindex = 0;

  before(() => {
    runOnCpus({ native: loadNative(), cpus: [cpu] });
    run('ip', ['netns', 'add', namespace]);
    runInNamespace(namespace, `ip link add rx numrxqueues ${QUEUES} type veth peer name peer`);
  });
  after(() => {
    runOnCpus({ native: loadNative(), cpus });
    removeNamespace(namespace);
  });

  beforeEach(() => {
    test = new TestDataplane({ maxFlows: 64, latencySampleShift: 16 });
    ifindex = inNetns(test.native, namespace, () => deviceShape('rx').ifindex);
    test.dataplane.cpus.set(cpu, { qsize: 64, progFd: test.dataplane.program('vnic_cpu') });
    test.dataplane.setQueueCpus(Array<number>(QUEUES).fill(cpu));
    test.setTable(tableOf(MINE));
    test.dataplane.control.storeU32(0, VnicControl.offsets.direct, 1);
    // The first of each CPU has its latency measured.
    arrive(frameOf(UDP, 9), OTHER);
    test.dataplane.queueStats.asBigUint64().fill(0n);
    forgetFlows(test.dataplane);
  });
  afterEach(() => test.close());

  /** Sends one packet in by an RX queue; gives where it went and the marker that it carries. */
  function arrive(frame: Uint8Array, rxQueue: number): { way: 'direct' | 'redirected'; marker: number } {
    const { returnValue, output } = inNetns(test.native, namespace, () => test.ingressOn(frame, { ifindex, rxQueue }));
    const marker = output.length > frame.length ? VnicMeta.decode(output).marker : 0;
    if (returnValue === XDP.redirect) return { way: 'redirected', marker };
    assert.equal(returnValue, XDP.pass);
    return { way: 'direct', marker };
  }
  const [direct, redirected] = [
    { way: 'direct', marker: 0 },
    { way: 'redirected', marker: 0 },
  ];

  function counts(queue = MINE) {
    const { steeredPackets, missedPackets, directPackets, offCpuPackets } = test.queueCounters()[queue]!;
    const [steered, missed, direct, offCpu] = [steeredPackets, missedPackets, directPackets, offCpuPackets].map(Number);
    return { steered, missed, direct, offCpu };
  }

  function moves() {
    const { movesInOrder, movesForced, movesRisked, heldPackets } = test.counters();
    return [movesInOrder, movesForced, movesRisked, heldPackets].map(Number);
  }

  function change(table: SteeringTable, settleMs: number): void {
    test.tables.activate(test.tables.prepare(table), { settleMs });
  }

  function indexOf(frame: Uint8Array): number {
    const { hash } = test.explain(frame);
    const { flows } = test.dataplane;
    const index = Array.from({ length: flows.length }, (_, at) => at).find(
      (at) => flows.read(at).hash === hash && flows.read(at).packets > 0n,
    );
    assert.ok(index !== undefined, 'the flow is in the table');
    return index;
  }
  const entry = (frame: Uint8Array): VnicFlow => test.dataplane.flows.read(indexOf(frame));

  function idle(frame: Uint8Array, jiffies: bigint): void {
    const index = indexOf(frame);
    const at = VnicFlow.offsets.lastSeenJiffies;
    const { flows } = test.dataplane;
    flows.storeU64(index, at, flows.u64(index, at) - jiffies);
  }

  /** As vnic_cpu does when the marker comes out of the CPUMAP entry. */
  function drain(frame: Uint8Array, marker: number, agoNs: number): void {
    const index = indexOf(frame);
    const at = process.hrtime.bigint() - BigInt(agoNs);
    test.dataplane.flows.storeU64(index, VnicFlow.offsets.drainedNs, at);
    test.dataplane.flows.storeU32(index, VnicFlow.offsets.drained, marker);
  }

  it('are passed there, and those that arrive on another one are redirected; both are counted for the queue', () => {
    assert.deepEqual(arrive(frameOf(UDP, 1), MINE), direct);
    assert.deepEqual(arrive(frameOf(UDP, 2), OTHER), redirected);
    assert.deepEqual(arrive(frameOf(UDP, 2), OTHER), redirected);
    assert.deepEqual(counts(), { steered: 3, missed: 2, direct: 1, offCpu: 0 });
    assert.equal(test.queueCounters()[OTHER]!.rxPackets, 2n);
    assert.equal(entry(frameOf(UDP, 1)).arrival, MINE | VnicLimits.arrivedDirect);
    assert.equal(entry(frameOf(UDP, 2)).arrival, OTHER);
    assert.equal(test.explain(frameOf(UDP, 2)).arrival, OTHER);
    assert.equal(test.explain(frameOf(UDP, 3)).arrival, 0xffff, 'a flow that is not known');
    assert.deepEqual(moves(), [0, 0, 0, 0]);
  });

  it('are redirected like all others unless passing them is switched on', () => {
    test.dataplane.control.storeU32(0, VnicControl.offsets.direct, 0);
    assert.deepEqual(arrive(frameOf(UDP), MINE), redirected);
    assert.deepEqual(arrive(frameOf(UDP), MINE), redirected);
    assert.deepEqual(arrive(frameOf(UDP), OTHER), redirected);
    assert.deepEqual(counts(), { steered: 3, missed: 1, direct: 0, offCpu: 0 });
    assert.deepEqual(moves(), [0, 0, 0, 0]);
  });

  it("are redirected where the queue's interrupt is on another CPU than the queue, and counted as such", function () {
    if (cpus.length === 1) skip(this, 'the machine has one CPU');
    const elsewhere = cpus[0]!;
    test.dataplane.cpus.set(elsewhere, { qsize: 64, progFd: test.dataplane.program('vnic_cpu') });
    assert.deepEqual(arrive(frameOf(UDP), MINE), direct);
    test.dataplane.setQueueCpus(Array<number>(QUEUES).fill(elsewhere));
    const paused = frameOf(UDP, 2);
    assert.deepEqual(arrive(paused, MINE), redirected);
    assert.deepEqual(counts(), { steered: 2, missed: 0, direct: 1, offCpu: 1 });
    assert.equal(entry(paused).arrival, MINE);
    // A flow that was passed leaves its place as for any other queue: after a pause, or counted.
    idle(frameOf(UDP), 20n);
    assert.deepEqual(arrive(frameOf(UDP), MINE), redirected);
    assert.deepEqual(moves(), [0, 0, 0, 0]);
  });

  it('are dropped by rules all the same', () => {
    test.setRules([{ id: 1, priority: 0, direction: 'ingress', match: {}, action: 'drop', shadow: false }]);
    const { returnValue } = inNetns(test.native, namespace, () =>
      test.ingressOn(frameOf(UDP), { ifindex, rxQueue: MINE }),
    );
    assert.equal(returnValue, XDP.drop);
    assert.deepEqual(counts(), { steered: 0, missed: 0, direct: 0, offCpu: 0 });
  });

  it('wait behind those that were redirected: only after a pause the flow is passed directly', () => {
    for (const [proto, earlyMs, doneMs] of [
      [UDP, 0, 1.5],
      [TCP, 1.5, 200],
    ] as const) {
      const frame = frameOf(proto);
      assert.deepEqual(arrive(frame, OTHER), redirected);
      // The first of a jiffy asks by a marker whether the way is free; the others do not.
      idle(frame, 1n);
      const first = arrive(frame, MINE);
      assert.deepEqual(first, { way: 'redirected', marker: 2 }, `protocol ${proto}`);
      drain(frame, first.marker, earlyMs * 1e6);
      const second = arrive(frame, MINE);
      assert.equal(second.way, 'redirected', `protocol ${proto}: ${earlyMs} ms after the marker`);
      assert.ok(second.marker > 0);
      drain(frame, second.marker, doneMs * 1e6);
      assert.deepEqual(arrive(frame, MINE), direct, `protocol ${proto}: ${doneMs} ms after the marker`);
      assert.deepEqual(arrive(frame, MINE), direct);
    }
    assert.deepEqual(moves(), [0, 0, 0, 0], 'no flow changed its queue');
  });

  it('of a flow that never pauses go on through the CPUMAP entry, and carry no markers but one a jiffy', () => {
    const frame = frameOf(UDP);
    arrive(frame, OTHER);
    const start = performance.now();
    const sent = Array.from({ length: 2000 }, () => arrive(frame, MINE));
    const jiffies = ((performance.now() - start) * 1e6) / jiffyNs(test.native);
    assert.ok(sent.every(({ way }) => way === 'redirected'));
    const markers = sent.filter(({ marker }) => marker > 0).length;
    assert.ok(markers > 0 && markers <= jiffies + 1, `${markers} markers in ${jiffies} jiffies`);
    assert.deepEqual(moves(), [0, 0, 0, 0]);
  });

  it('of a flow that the device sends elsewhere in mid-stream are counted as a risk, after a pause they are not', () => {
    const frame = frameOf(UDP);
    assert.deepEqual(arrive(frame, MINE), direct);
    assert.deepEqual(arrive(frame, OTHER), redirected);
    assert.deepEqual(moves(), [0, 0, 1, 0]);
    const paused = frameOf(UDP, 2);
    assert.deepEqual(arrive(paused, MINE), direct);
    idle(paused, 20n);
    assert.deepEqual(arrive(paused, OTHER), redirected);
    assert.deepEqual(moves(), [0, 0, 1, 0]);
  });

  it('stay there when the table moves their flow, until it pauses', () => {
    const frame = frameOf(UDP);
    assert.deepEqual(arrive(frame, MINE), direct);
    change(tableOf(THIRD), SETTLE_MS);
    assert.deepEqual(arrive(frame, MINE), direct, 'held where it is');
    assert.deepEqual(arrive(frame, MINE), direct);
    assert.deepEqual([entry(frame).queue, moves()], [MINE, [0, 0, 0, 2]]);
    drain(frame, Number(entry(frame).packets), 2e6);
    assert.deepEqual(arrive(frame, MINE), redirected);
    assert.deepEqual([entry(frame).queue, moves()], [THIRD, [1, 0, 0, 2]]);
    assert.deepEqual(counts(THIRD), { steered: 1, missed: 1, direct: 0, offCpu: 0 });
  });

  it('leave a lost queue at once, and one whose deadline is over at a risk', () => {
    const lost = frameOf(UDP, 1);
    const late = frameOf(UDP, 2);
    arrive(lost, MINE);
    change(tableOf(THIRD, [MINE]), SETTLE_MS);
    assert.deepEqual(arrive(lost, MINE), redirected);
    assert.deepEqual(moves(), [0, 1, 0, 0]);
    change(tableOf(MINE), 0);
    arrive(late, MINE);
    change(tableOf(THIRD), 0);
    assert.deepEqual(arrive(late, MINE), redirected);
    assert.deepEqual(moves(), [0, 1, 1, 0]);
  });

  it('may be first on another queue of theirs: a moved flow that arrives there is passed there once the former is empty', () => {
    const frame = frameOf(UDP);
    change(tableOf(OTHER), 0);
    assert.deepEqual(arrive(frame, MINE), redirected);
    change(tableOf(MINE), SETTLE_MS);
    const held = arrive(frame, MINE);
    assert.equal(held.way, 'redirected');
    assert.deepEqual([entry(frame).queue, held.marker], [OTHER, 2]);
    drain(frame, held.marker, 2e6);
    assert.deepEqual(arrive(frame, MINE), direct);
    assert.deepEqual(moves(), [1, 0, 0, 1]);
  });
});
