// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { CliRig } from '../support/cli.ts';

interface RuleRow {
  id: number;
  counters: { packets: number; bytes: number; droppedPackets: number; droppedBytes: number };
}

interface FlowRow {
  direction: string;
  src: string;
  dst: string;
  srcPort: number;
  dstPort: number;
  proto: number;
  packets: number;
  bytes: number;
  droppedPackets: number;
  queue: number | null;
  az: string | null;
  rule: number | null;
  verdict: string;
}

interface QueueRow {
  queue: number;
  steeredPackets: number;
  steeredBytes: number;
  rxPackets: number;
  droppedPackets: number;
}

/** Ethernet, IPv4, UDP. */
const HEADER_BYTES = 14 + 20 + 8;

describe('vnicctl on a device with traffic', function () {
  // Each test runs vnicctl many times, perhaps on a busy machine.
  this.timeout(300_000);
  let rig: CliRig;

  before(() => {
    rig = new CliRig('traffic');
    rig.ok(['attach', 'vnic0']);
    rig.ok('az set az-a --queues 0-15 --prefix 10.9.0.0/16'.split(' '));
    rig.ok('rule add --id 1 --src 10.9.0.2 --proto udp --dport 5001 --queues 20'.split(' '));
    rig.ok('rule add --id 2 --src 10.9.0.2 --proto udp --dport 5002 --action drop'.split(' '));
    rig.ok('rule add --id 3 --proto udp --dport 5003 --action drop --shadow'.split(' '));
    rig.send({ fromPort: 4001, toPort: 5001, packets: 300, bytes: 100 });
    rig.send({ fromPort: 4002, toPort: 5002, packets: 200, bytes: 50 });
    rig.send({ fromPort: 4003, toPort: 5003, packets: 100, bytes: 10 });
    rig.send({ fromPort: 4004, toPort: 5004, packets: 77, bytes: 1000 });
  });
  after(() => {
    rig?.run(['detach', 'vnic0']);
    rig?.[Symbol.dispose]();
  });

  it('counts every packet and byte at its rule', () => {
    const counters = Object.fromEntries(
      rig
        .json<RuleRow[]>(['rule', 'list'])
        .map(({ id, counters: { packets, bytes, droppedPackets, droppedBytes } }) => [
          id,
          [packets, bytes, droppedPackets, droppedBytes],
        ]),
    );
    const shadowed = 100 * (HEADER_BYTES + 10);
    assert.deepEqual(counters, {
      1: [300, 300 * (HEADER_BYTES + 100), 0, 0],
      2: [200, 200 * (HEADER_BYTES + 50), 200, 200 * (HEADER_BYTES + 50)],
      // In shadow mode: what would have been dropped.
      3: [100, shadowed, 100, shadowed],
    });
  });

  it('counts every packet and byte at its flow, with queue, AZ, rule and verdict', () => {
    const flows = rig
      .json<FlowRow[]>(['flows', 'vnic0', '--by', 'packets'])
      .filter(({ direction }) => direction === 'ingress');
    const seen = flows
      .filter(({ proto }) => proto === 17)
      .map(({ src, dst, srcPort, dstPort, packets, bytes, rule, az, verdict }) => [
        `${src}:${srcPort} ${dst}:${dstPort}`,
        packets,
        bytes,
        rule,
        az,
        verdict,
      ]);
    assert.deepEqual(seen, [
      ['10.9.0.2:4001 10.9.0.1:5001', 300, 300 * (HEADER_BYTES + 100), 1, 'az-a', 'pass'],
      ['10.9.0.2:4002 10.9.0.1:5002', 200, 200 * (HEADER_BYTES + 50), 2, 'az-a', 'drop'],
      ['10.9.0.2:4003 10.9.0.1:5003', 100, 100 * (HEADER_BYTES + 10), 3, 'az-a', seen[2]?.[5]],
      ['10.9.0.2:4004 10.9.0.1:5004', 77, 77 * (HEADER_BYTES + 1000), null, 'az-a', 'pass'],
    ]);
    assert.notEqual(seen[2]?.[5], 'drop', 'a shadow rule drops nothing');
    const byBytes = rig.json<FlowRow[]>(['flows', '--top', '1', '--by', 'bytes']);
    assert.deepEqual([byBytes.length, byBytes[0]?.srcPort], [1, 4004]);
    assert.match(rig.ok(['flows']), /^in +udp +10\.9\.0\.2:4002 +10\.9\.0\.1:5002 +200 .* 2 +drop$/m);
  });

  it('counts at the queue that explain names', () => {
    const explained = rig.json<{ queue: number; flowKnown: boolean }>(
      'explain vnic0 --src 10.9.0.2:4004 --dst 10.9.0.1:5004 --proto udp'.split(' '),
    );
    assert.equal(explained.flowKnown, true);
    assert.ok(explained.queue <= 15);
    const queues = rig.json<QueueRow[]>(['queues']);
    assert.equal(queues.length, 32);
    assert.equal(queues[20]?.steeredPackets, 300);
    assert.equal(queues[20]?.steeredBytes, 300 * (HEADER_BYTES + 100));
    assert.ok((queues[explained.queue]?.steeredPackets ?? 0) >= 77);
    const sum = (field: keyof QueueRow): number => queues.reduce((total, queue) => total + queue[field], 0);
    const { counters } = rig.json<{
      counters: { rxPackets: number; redirected: number; drops: Record<string, number> };
    }>(['status', 'vnic0']);
    assert.equal(sum('steeredPackets'), counters.redirected);
    assert.equal(sum('droppedPackets'), 200);
    assert.equal(counters.drops['rule'], 200);
    assert.equal(counters.rxPackets, sum('rxPackets'));
    assert.ok(counters.rxPackets >= 677);
    const line =
      rig
        .ok(['queues'])
        .split('\n')
        .find((text) => /^ *20 /.test(text)) ?? '';
    assert.match(line, /^ *20 +- +\d+ +up +300 +█+/);
  });

  it('limits a flow to its rate and says so', () => {
    rig.ok('limit set 9 --proto udp --dport 5009 --rate 1pps --burst 5 --scope flow'.split(' '));
    rig.send({ fromPort: 4009, toPort: 5009, packets: 50, bytes: 10 });
    const flow = rig.json<FlowRow[]>(['flows']).find(({ srcPort }) => srcPort === 4009);
    assert.equal(flow?.packets, 50);
    assert.equal(flow?.verdict, 'limit');
    const passed = 50 - (flow?.droppedPackets ?? 0);
    assert.ok(passed >= 5 && passed <= 10, `${passed} passed of a burst of 5`);
    const over = rig.json<{ limit: { over: boolean }; verdict: string }>(
      'explain vnic0 --src 10.9.0.2:4009 --dst 10.9.0.1:5009 --proto udp'.split(' '),
    );
    assert.equal(over.limit.over, over.verdict === 'limit');
  });

  it('keeps the counters of a rule that is replaced', () => {
    rig.ok('rule replace 1 --src 10.9.0.2 --proto udp --dport 5001 --queues 21'.split(' '));
    rig.send({ fromPort: 4001, toPort: 5001, packets: 20, bytes: 100 });
    assert.equal(rig.json<RuleRow>(['rule', 'get', '1']).counters.packets, 320);
    assert.equal(rig.json<QueueRow[]>(['queues'])[21]?.steeredPackets, 20);
  });
});
