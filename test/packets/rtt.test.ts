// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { configureRtt, readRtt } from '../../src/app/rtt.ts';
import { parsePrefix } from '../../src/steering/rules/prefix.ts';
import { PacketRunner, TestDataplane } from '../support/dataplane.ts';
import { packet } from '../support/packet.ts';

const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 16;
const nop = 1;

interface Segment {
  flags?: number;
  tsval?: number;
  tsecr?: number;
  payload?: number;
  sequence?: number;
  /** Before the timestamps; default two NOPs, as Linux writes them. */
  before?: number[];
  /** No timestamps at all. */
  isBare?: boolean;
  port?: number;
  version?: 4 | 6;
  tags?: number;
}

/** From the peer in az-a to this machine, or the other way. */
function segment(isArriving: boolean, fields: Segment): Uint8Array {
  const { flags = ACK, tsval = 0, tsecr = 0, payload = 0, sequence = 1, before = [nop, nop], port = 40_000 } = fields;
  const stamp = new DataView(new ArrayBuffer(8));
  stamp.setUint32(0, tsval);
  stamp.setUint32(4, tsecr);
  const options =
    fields.isBare === true ? new Uint8Array(0) : Uint8Array.from([...before, 8, 10, ...new Uint8Array(stamp.buffer)]);
  const [peer, self] = fields.version === 6 ? ['fd00:a::1', 'fd00::1'] : ['10.1.0.1', '10.0.0.1'];
  const ends = isArriving ? { src: peer, dst: self } : { src: self, dst: peer };
  const ports = isArriving ? { sport: 443, dport: port } : { sport: port, dport: 443 };
  let frame = packet().ethernet();
  for (let tag = 0; tag < (fields.tags ?? 0); tag++) frame = frame.vlan(5 + tag);
  const withIp = fields.version === 6 ? frame.ipv6(ends) : frame.ipv4(ends);
  return withIp
    .tcp({ ...ports, flags, sequence, options })
    .payload(payload)
    .build();
}

describe('round-trip times of TCP', () => {
  let test: TestDataplane;
  let egress: PacketRunner;

  beforeEach(() => {
    test = new TestDataplane({ maxFlows: 4096 });
    test.setRules(
      [],
      [
        {
          name: 'az-a',
          queues: [0],
          weight: 1,
          prefixes: [parsePrefix('10.1.0.0/16'), parsePrefix('fd00:a::/32')],
        },
      ],
    );
    egress = new PacketRunner(test.native, test.dataplane.program('vnic_egress'));
    configureRtt(test.dataplane, 1, 'tcx');
  });
  afterEach(() => test.close());

  const leave = (fields: Segment): number => egress.run(segment(false, fields));
  const arrive = (fields: Segment): number => test.ingress(segment(true, fields));
  const pause = (ms: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  const samples = (): number[] => readRtt(test.dataplane).rows.map(({ count }) => Number(count));
  const toAzA = (): number => samples()[1]!;
  /** Gives the flow its slot. */
  const arm = (tsval: number, fields: Segment = {}): number => leave({ tsval, payload: 10, ...fields });

  it('go from the first packet with a newer timestamp to the first echo of it, in the row of the AZ', () => {
    arm(100);
    leave({ tsval: 100, payload: 10 });
    arrive({ tsecr: 100 });
    assert.equal(toAzA(), 0, 'packets with that timestamp can have left before');
    leave({ tsval: 101, payload: 10 });
    pause(20);
    arrive({ tsecr: 100 });
    assert.equal(toAzA(), 0, 'an older echo says nothing');
    leave({ tsval: 102, payload: 10 });
    arrive({ tsecr: 101 });
    arrive({ tsecr: 101 });
    assert.deepEqual(samples(), [0, 1, 0, 0, 0, 0, 0, 0, 0]);
    const { sumNs } = readRtt(test.dataplane).rows[1]!;
    assert.ok(sumNs >= 20_000_000n && sumNs < 5_000_000_000n, `${sumNs} ns`);
  });

  it('of a handshake are measured at once, in both roles', () => {
    leave({ flags: SYN, tsval: 7, port: 1000 });
    arrive({ flags: SYN | ACK, tsval: 900, tsecr: 7, port: 1000 });
    assert.equal(toAzA(), 1, 'a connection from here');
    arrive({ flags: SYN, tsval: 50, port: 1001 });
    leave({ flags: SYN | ACK, tsval: 8, tsecr: 50, port: 1001 });
    arrive({ flags: ACK, tsval: 51, tsecr: 8, port: 1001 });
    assert.equal(toAzA(), 2, 'a connection to here');
  });

  it('survive the wrap of timestamps', () => {
    arm(0xffff_fff0);
    leave({ tsval: 3, payload: 1 });
    arrive({ tsecr: 0xffff_fff0 });
    assert.equal(toAzA(), 0);
    arrive({ tsecr: 3 });
    assert.equal(toAzA(), 1);
  });

  it('are not taken of an echo that skips the probe, nor of a retransmission', () => {
    arm(100);
    leave({ tsval: 101, payload: 10, sequence: 5 });
    leave({ tsval: 301, payload: 10, sequence: 5 });
    arrive({ tsecr: 301 });
    arrive({ tsecr: 101 });
    assert.equal(toAzA(), 0);
    assert.equal(readRtt(test.dataplane).unanswered, 1n);
  });

  it('need something that the peer must acknowledge', () => {
    arm(100);
    leave({ tsval: 101 });
    arrive({ tsecr: 101 });
    assert.equal(toAzA(), 0, 'a bare ACK is answered whenever the peer has something to say');
    leave({ tsval: 102, flags: ACK | FIN });
    arrive({ tsecr: 102 });
    assert.equal(toAzA(), 1);
  });

  it('end with a reset, and are not made of an echo without ACK', () => {
    arm(100);
    leave({ tsval: 101, payload: 1 });
    arrive({ tsecr: 101, flags: 0 });
    assert.equal(toAzA(), 0);
    arrive({ tsecr: 101, flags: RST | ACK });
    arrive({ tsecr: 101 });
    assert.equal(toAzA(), 0);
  });

  it('are not there for packets without timestamps, which are counted', () => {
    for (let i = 0; i < 3; i++) leave({ isBare: true, payload: 10 });
    arrive({ isBare: true });
    const { rows, unstamped } = readRtt(test.dataplane);
    assert.ok(rows.every(({ count }) => count === 0n));
    assert.equal(unstamped, 1n, 'the slot rests after a look');
  });

  const forms: Record<string, Segment> = {
    IPv6: { version: 6 },
    'IPv6 behind two VLAN tags': { version: 6, tags: 2 },
    'a VLAN tag': { tags: 1 },
    'options of a SYN before them': { before: [2, 4, 5, 180, 4, 2] },
    'no padding before them': { before: [] },
    'an unknown option before them': { before: [254, 7, 1, 2, 3, 4, 5, nop] },
  };
  for (const [name, form] of Object.entries(forms)) {
    it(`are found with ${name}`, () => {
      arm(1, form);
      leave({ tsval: 2, payload: 4, ...form });
      arrive({ tsecr: 2, ...form });
      assert.equal(toAzA(), 1);
    });
  }

  it('survive options that are no options', () => {
    for (const before of [
      [5, 0],
      [5, 1],
      [8, 9, 1],
      [0, 0],
      [5, 200],
      [254, 39, 0, 0],
    ]) {
      arm(1, { before, port: 5000 + before.length });
      leave({ tsval: 2, payload: 4, before, port: 5000 + before.length });
      arrive({ tsecr: 2, before, port: 5000 + before.length });
    }
    assert.deepEqual(new Set(samples()), new Set([0]));
  });

  it('rest after an answer, so that a busy flow gives few', () => {
    for (let i = 0; i < 100; i++) {
      leave({ tsval: 1000 + i, payload: 10 });
      arrive({ tsecr: 1000 + i });
    }
    assert.equal(toAzA(), 1);
    pause(120);
    for (let i = 0; i < 5; i++) {
      leave({ tsval: 2000 + i, payload: 10 });
      arrive({ tsecr: 2000 + i });
    }
    assert.equal(toAzA(), 2);
  });

  it('are of one packet in rtt_sample, rounded up to a power of two, and of none with 0', () => {
    configureRtt(test.dataplane, 0, 'tcx');
    for (let i = 0; i < 200; i++) leave({ tsval: i, payload: 1, port: 100 + i });
    assert.equal(readRtt(test.dataplane).mode, 'off');
    configureRtt(test.dataplane, 50, 'tcx');
    for (let i = 0; i < 128; i++) leave({ isBare: true, payload: 1, port: 100 + i });
    assert.equal(readRtt(test.dataplane).unstamped, 2n);
  });

  describe('without the egress program', () => {
    beforeEach(() => configureRtt(test.dataplane, 64, 'off'));

    it('are those of handshakes of connections to this machine', () => {
      arrive({ flags: SYN, sequence: 10 });
      pause(20);
      arrive({ flags: ACK, sequence: 11 });
      arrive({ flags: ACK, sequence: 11 });
      assert.equal(toAzA(), 1);
      assert.ok(readRtt(test.dataplane).rows[1]!.sumNs >= 20_000_000n);
    });

    it('are not taken where the SYN came twice, or the ACK is of something else', () => {
      arrive({ flags: SYN, sequence: 10, port: 1 });
      arrive({ flags: SYN, sequence: 10, port: 1 });
      arrive({ flags: ACK, sequence: 11, port: 1 });
      arrive({ flags: SYN, sequence: 20, port: 2 });
      arrive({ flags: ACK, sequence: 99, port: 2 });
      assert.equal(toAzA(), 0);
    });
  });
});
