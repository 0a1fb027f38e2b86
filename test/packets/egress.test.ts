// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { BpfObject } from '../../src/loader/object.ts';
import type { SkBuff } from '../../src/maps/generated/host.ts';
import { BpfMap, ProgArray } from '../../src/maps/index.ts';
import type { AzConfig } from '../../src/steering/azs.ts';
import { bucketOf, chooseQueue, flowHash } from '../../src/steering/hash.ts';
import type { Rule } from '../../src/steering/rules/model.ts';
import { makePrefix, parseAddress } from '../../src/steering/rules/prefix.ts';
import type { SteeringTable } from '../../src/steering/table.ts';
import { compileTestProgram } from '../support/compile.ts';
import { PacketRunner, TC, TestDataplane, XDP } from '../support/dataplane.ts';
import { flowFrame, randomFlow, randomTable, reversed } from '../support/flow-frames.ts';
import { tableTo } from '../support/one-queue-table.ts';
import { packet } from '../support/packet.ts';
import { randomSource } from '../support/random.ts';
import { referenceParse, resultText } from '../support/reference-parser.ts';

const noQueue = 0xffff;
const horizonNs = 2_000_000_000n;

const flow = { src: parseAddress('10.0.0.1'), dst: parseAddress('10.0.0.2'), sport: 1000, dport: 53, proto: 17 };
const frame = flowFrame(flow, 1000);

function egressRule(fields: Partial<Rule>): Rule {
  return { id: 7, priority: 0, direction: 'egress', match: {}, action: 'pass', shadow: false, ...fields };
}

describe('packets that leave', () => {
  let dataplane: TestDataplane;
  let probe: PacketRunner;
  const opened = new DisposableStack();

  before(() => {
    dataplane = opened.use(new TestDataplane({ maxFlows: 65_536, maxRules: 4 }));
    const { native } = dataplane;
    using object = BpfObject.load(native, compileTestProgram('egress_probe'));
    const programs = opened.use(BpfMap.fromFd(native, object.mapFd('probed')));
    new ProgArray(native, programs).set(0, dataplane.dataplane.program('vnic_egress'));
    const program = object.programFd('egress_probe');
    opened.defer(() => program.close());
    probe = new PacketRunner(native, program);
  });
  after(() => opened.dispose());

  beforeEach(() => {
    dataplane.setRules([]);
    dataplane.tables.deactivate();
    dataplane.clear();
  });

  /** Tables are not written again at once after they were left; each test takes a new one. */
  const useTable = (table: SteeringTable): void => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 15);
    dataplane.setTable(table);
  };

  function send(
    bytes = frame,
    context: Partial<SkBuff> = {},
  ): { action: number; queueMapping: number; tstamp: bigint } {
    const { returnValue, context: after } = probe.runWithContext(bytes, context);
    return { action: returnValue, queueMapping: after.mark, tstamp: after.tstamp };
  }

  const flowEntry = () => [...dataplane.flows().values()][0]!.flow;

  it('a flow leaves its TX queue when it was idle for long enough, a lost one at once, and at the deadline', () => {
    const moves = (): number[] => {
      const { movesInOrder, movesForced, movesRisked, heldPackets } = dataplane.counters();
      return [movesInOrder, movesForced, movesRisked, heldPackets].map(Number);
    };
    const change = (table: SteeringTable, settleMs: number): void => {
      dataplane.tables.activate(dataplane.tables.prepare(table), { settleMs });
    };
    useTable(tableTo(4));
    assert.equal(send().queueMapping, 5);
    change(tableTo(6), 60_000);
    assert.equal(send().queueMapping, 5, 'the TX queue may hold the packet before');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60);
    assert.equal(send().queueMapping, 7, 'nothing is so long in a TX queue');
    change({ ...tableTo(8), usableQueues: 2n ** 64n - 1n - (1n << 6n) }, 60_000);
    assert.equal(send().queueMapping, 9, 'its queue was lost');
    change(tableTo(10), 0);
    assert.equal(send().queueMapping, 11, 'there is no time left');
    assert.deepEqual(moves(), [1, 1, 1, 1]);
  });

  it('a shaped flow stays on its TX queue for as long as fq may hold its packets', () => {
    const limit = { rate: { bitsPerSecond: 1e9 }, burst: { bytes: 1e5 }, scope: 'rule', mode: 'shape' } as const;
    dataplane.setRules([egressRule({ limit })]);
    useTable(tableTo(4));
    send();
    dataplane.tables.activate(dataplane.tables.prepare(tableTo(6)), { settleMs: 60_000 });
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60);
    assert.equal(send().queueMapping, 5);
  });

  it('a flow gets queue_mapping = queue + 1 as table, AZ and rule say', () => {
    const random = randomSource(42);
    const table = randomTable(random);
    const azs: AzConfig[] = [
      { name: 'az-a', queues: [1], weight: 1, prefixes: [makePrefix(parseAddress('0.0.0.0'), 97)] },
      { name: 'az-b', queues: [2], weight: 1, prefixes: [makePrefix(parseAddress('8000::'), 1)] },
    ];
    dataplane.setRules([egressRule({ match: { proto: 6 }, queues: [3, 9, 41] })], azs);
    useTable(table);
    const sent = new Map<number, number>();
    let unsteered = 0;
    for (let count = 0; count < 5000; count++) {
      const some = randomFlow(random);
      const bytes = flowFrame(some);
      const hash = flowHash(some, dataplane.size.hashSeed);
      // Where the packet goes to counts, not where it comes from.
      const isIpv4 = bytes[12] === 8;
      const az = isIpv4 ? (some.dst[12]! < 128 ? 1 : 0) : some.dst[0]! >= 128 ? 2 : 0;
      const ruleQueues = some.proto === 6 ? (1n << 3n) | (1n << 9n) | (1n << 41n) : 0n;
      const queue = chooseQueue({ ...table, hash, bucket: bucketOf(hash), az, ruleQueues });
      const { action, queueMapping } = send(bytes);
      assert.equal(action, TC.next);
      assert.equal(queueMapping, queue === noQueue ? 0 : queue + 1, resultText(some));
      if (queue === noQueue) unsteered++;
      else sent.set(queue, (sent.get(queue) ?? 0) + 1);
    }
    assert.ok(unsteered > 20);
    for (const { queue, txPackets } of dataplane.queueCounters()) assert.equal(Number(txPackets), sent.get(queue) ?? 0);
    assert.equal(Number(dataplane.counters().txUnsteeredPackets), unsteered);
  });

  it('the answer to a packet that arrived takes the queue of the same bucket', () => {
    const random = randomSource(43);
    const table = randomTable(random);
    useTable(table);
    for (let count = 0; count < 500; count++) {
      const some = randomFlow(random);
      const { queue } = dataplane.explain(flowFrame(some), 'ingress');
      assert.equal(send(flowFrame(reversed(some))).queueMapping, queue === noQueue ? 0 : queue + 1);
    }
  });

  it('without a table packets leave as the kernel likes, and are counted as unsteered', () => {
    assert.deepEqual(send(), { action: TC.next, queueMapping: 0, tstamp: 0n });
    assert.equal(dataplane.counters().txUnsteeredPackets, 1n);
    assert.equal(flowEntry().packets, 1n);
  });

  it('frames that cannot be parsed leave unsteered, and are no flows', () => {
    useTable(tableTo(5));
    for (const bytes of [
      packet().ethernet().arp().padTo(60).build(),
      packet().ethernet().vlan(1).vlan(2).vlan(3).ipv4().udp().payload(20).build(),
      packet().ethernet().ipv4({ ihl: 4 }).udp().payload(30).build(),
    ]) {
      assert.equal(send(bytes).queueMapping, 0);
    }
    assert.equal(dataplane.counters().txUnsteeredPackets, 3n);
    assert.equal(dataplane.flows().size, 0);
  });

  it('finds the flow behind VLAN tags, options and extension headers, and in large frames', () => {
    useTable(tableTo(5));
    const eth = packet().ethernet();
    const builders = [
      eth.vlan(5).ipv4().udp(),
      eth.vlan(6, { tpid: 0x88a8 }).vlan(5).ipv6().tcp(),
      eth.ipv4({ options: new Uint8Array(40).fill(1) }).tcp({ options: new Uint8Array(40).fill(1) }),
      eth.ipv6().hopByHop().routing({ bytes: 24 }).destination({ bytes: 16 }).fragment().udp(),
    ];
    for (const builder of builders) {
      for (const payloadBytes of [10, 1400, 3000]) {
        const bytes = builder.payload(payloadBytes).build();
        dataplane.clear();
        assert.equal(send(bytes).queueMapping, 6);
        assert.deepEqual([...dataplane.flows().keys()], [resultText(referenceParse(bytes))]);
        assert.equal(flowEntry().bytes, BigInt(bytes.length));
        assert.equal(flowEntry().key.direction, 1);
      }
    }
  });

  it('counts a GSO frame as the packets and bytes that it becomes on the wire', () => {
    useTable(tableTo(3));
    const limited = egressRule({ shadow: true, action: 'drop' });
    const { slots } = dataplane.setRules([limited]);
    const large = flowFrame({ ...flow, proto: 6 }, 3000);
    assert.equal(send(large, { gsoSegs: 20, gsoSize: 1448, wireLen: 30_280 }).action, TC.next);
    const counted = { packets: 20n, bytes: 30_280n };
    const entry = flowEntry();
    assert.deepEqual({ packets: entry.packets, bytes: entry.bytes }, counted);
    const { txPackets, txBytes } = dataplane.queueCounters()[3]!;
    assert.deepEqual({ packets: txPackets, bytes: txBytes }, counted);
    const state = dataplane.dataplane.ruleCounters(slots.get(7)!);
    assert.deepEqual({ packets: state.packets, bytes: state.bytes }, counted);
    assert.deepEqual({ packets: state.droppedPackets, bytes: state.droppedBytes }, counted);
  });

  it('a GSO frame takes as many packets from a limit as it becomes', () => {
    dataplane.setRules([
      egressRule({ limit: { rate: { packetsPerSecond: 1 }, burst: { packets: 30 }, scope: 'rule', mode: 'police' } }),
    ]);
    const large = flowFrame({ ...flow, proto: 6 }, 3000);
    const context = { gsoSegs: 20, gsoSize: 1448, wireLen: 30_280 };
    assert.equal(send(large, context).action, TC.next);
    assert.equal(send(large, context).action, TC.drop);
    for (let count = 0; count < 10; count++) assert.equal(send().action, TC.next, `packet ${count}`);
    assert.equal(send().action, TC.drop);
    assert.equal(dataplane.counters().drops['limit_rule'], 21n);
  });

  it('a rule with action drop drops what leaves and leaves alone what arrives', () => {
    dataplane.setRules([egressRule({ action: 'drop' })]);
    assert.equal(send().action, TC.drop);
    assert.equal(dataplane.ingress(frame), XDP.pass);
    assert.equal(dataplane.counters().drops['rule'], 1n);
    assert.equal(dataplane.counters().txUnsteeredPackets, 0n);
  });

  describe('shaping', () => {
    const shape = (bitsPerSecond: number, bytes: number, fields: Partial<Rule> = {}) =>
      dataplane.setRules([
        egressRule({
          limit: { rate: { bitsPerSecond }, burst: { bytes }, scope: 'rule', mode: 'shape' },
          ...fields,
        }),
      ]);

    it('sends the burst at once and gives the rest departure times at the rate', () => {
      shape(8_000_000, 2000); // 1000 bytes take 1 ms
      const begin = process.hrtime.bigint();
      const times = Array.from({ length: 52 }, () => send()).map(({ action, tstamp }) => {
        assert.equal(action, TC.next);
        return tstamp;
      });
      const elapsedNs = process.hrtime.bigint() - begin;
      assert.deepEqual(times.slice(0, 2), [0n, 0n]);
      const delayed = times.filter((time) => time !== 0n);
      const last = delayed.at(-1)!;
      // Fifty packets too many are fifty milliseconds too early, less what passed meanwhile.
      const lead = last - begin;
      assert.ok(lead >= 49_000_000n && lead <= 50_000_000n + elapsedNs, `${lead} ns`);
      for (const [index, time] of delayed.entries()) {
        if (index > 0) assert.ok(time > delayed[index - 1]!, 'departure times only grow');
      }
      assert.equal(flowEntry().droppedPackets, 0n);
    });

    it('keeps a later departure time that the socket asked for', () => {
      shape(8_000_000, 1000);
      send();
      const paced = process.hrtime.bigint() + 60_000_000_000n;
      assert.equal(send(frame, { tstamp: paced }).tstamp, paced);
      assert.ok(send().tstamp < paced);
    });

    it('drops what would wait longer than the horizon, counts it, and does not charge it', () => {
      shape(80_000, 1000); // 1000 bytes take 100 ms: the horizon holds twenty
      let begin = 0n;
      const actions = Array.from({ length: 1000 }, () => {
        begin ||= process.hrtime.bigint();
        return send().action;
      });
      const passed = actions.filter((action) => action === TC.next).length;
      assert.ok(passed >= 20 && passed <= 21 + Number((process.hrtime.bigint() - begin) / 100_000_000n), `${passed}`);
      const dropped = BigInt(1000 - passed);
      assert.equal(dataplane.counters().drops['limit_rule'], dropped);
      assert.equal(flowEntry().droppedPackets, dropped);
      const state = dataplane.dataplane.ruleCounters(0);
      assert.deepEqual([state.packets, state.droppedPackets], [1000n, dropped]);
      // Were the dropped ones charged, the limiter would be 98 s ahead.
      const { limiterDebtNs, dropped: wouldDrop } = dataplane.explain(frame, 'egress');
      assert.ok(limiterDebtNs <= horizonNs + 200_000_000n, `${limiterDebtNs}`);
      assert.ok(limiterDebtNs > horizonNs - 500_000_000n);
      assert.equal(wouldDrop, limiterDebtNs > horizonNs ? 1 : 0);
    });

    it('in shadow mode neither delays nor drops', () => {
      shape(80_000, 1000, { shadow: true });
      for (let count = 0; count < 100; count++) {
        const { action, tstamp } = send();
        assert.deepEqual([action, tstamp], [TC.next, 0n]);
      }
      const { packets, droppedPackets } = dataplane.dataplane.ruleCounters(0);
      assert.ok(packets === 100n && droppedPackets >= 70n && droppedPackets <= 80n, `${droppedPackets}`);
    });
  });
});
