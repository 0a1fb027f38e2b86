// SPDX-License-Identifier: Apache-2.0
/** BFD as the program speaks it, packet by packet. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { writeBfdSessions } from '../../src/app/bfd-sessions.ts';
import { VnicBfdReject } from '../../src/maps/generated/abi.ts';
import {
  answerFrame,
  BfdBench,
  type BfdFields,
  type BfdPath,
  bfdAz,
  bfdFrame,
  bfdPayload,
  bfdStart,
  Flag,
  path4,
  path6,
  readBfdPayload,
  State,
  stateNames,
  XDP_TX,
} from '../support/bfd.ts';
import { TestDataplane, XDP } from '../support/dataplane.ts';
import { internetChecksum, ipv4Bytes, u16 } from '../support/packet-bytes.ts';

const peers = [path4.peer, path6.peer];
const paths: readonly (readonly [string, BfdPath, number])[] = [
  ['IPv4', path4, 0],
  ['IPv6', path6, 1],
  ['IPv4 behind a VLAN tag', { ...path4, vlans: [42] }, 0],
  ['IPv6 behind two tags', { ...path6, vlans: [7, 4000] }, 1],
];

describe('BFD packets', () => {
  for (const [name, path, index] of paths) {
    it(`come to a session in three steps, answered byte for byte: ${name}`, () => {
      using bench = new BfdBench([bfdAz('az-a', { peers })]);
      const { localDiscr } = bench.session(index);
      const ours = { myDiscr: localDiscr, yourDiscr: 0x11223344, minTxUs: 1_000_000, minRxUs: 50_000 };

      const init = bench.receive(bfdFrame(path, { state: State.down }));
      assert.equal(init.action, XDP_TX);
      assert.deepEqual(init.frame, answerFrame(path, index, { ...ours, state: State.init }));

      const up = bench.receive(bfdFrame(path, { state: State.init, yourDiscr: localDiscr }));
      assert.equal(up.action, XDP_TX);
      assert.deepEqual(up.frame, answerFrame(path, index, { ...ours, state: State.up }));

      const { state, diag, received, sent, detectNs, upSinceNs } = bench.session(index);
      assert.deepEqual({ state, diag, received, sent }, { state: State.up, diag: 0, received: 2n, sent: 2n });
      assert.equal(detectNs, 3_000_000_000n, 'the peer is still slow: 3 times 1 s');
      assert.ok(upSinceNs > 0n);
      assert.equal(bench.status()[0]?.sessions[index]?.state, 'up');
    });
  }

  it('over several hops are answered on their own port, whatever their TTL', () => {
    using bench = new BfdBench([bfdAz('az-a', { multihop: true })]);
    const path = { ...path4, port: 4784, ttl: 61 };
    const { action, frame } = bench.receive(bfdFrame(path, { state: State.down }));
    assert.equal(action, XDP_TX);
    const myDiscr = bench.session().localDiscr;
    const fields = { state: State.init, myDiscr, yourDiscr: 0x11223344, minRxUs: 50_000 };
    assert.deepEqual(frame, answerFrame(path, 0, fields));
  });

  it('take the session from each state to the one of RFC 5880, section 6.2', () => {
    const { adminDown: A, down: D, init: I, up: U } = State;
    const table: readonly (readonly [from: number, received: number, to: number])[] = [
      [D, A, D],
      [D, D, I],
      [D, I, U],
      [D, U, D],
      [I, A, D],
      [I, D, I],
      [I, I, U],
      [I, U, U],
      [U, A, D],
      [U, D, D],
      [U, I, U],
      [U, U, U],
    ];
    using bench = new BfdBench();
    for (const [from, received, to] of table) {
      const what = `${stateNames[from]} on ${stateNames[received]}`;
      bench.put({ state: from, diag: 0, upSinceNs: 1n, downSinceNs: 0n });
      const answer = bench.exchange({ state: received });
      const { state, diag, downSinceNs } = bench.session();
      assert.equal(state, to, what);
      assert.equal(answer?.state, to, `${what}, as told to the peer`);
      // 3: neighbour signalled session down.
      assert.equal(diag, to === D && from !== D ? 3 : 0, `${what}, diagnostic`);
      assert.equal(downSinceNs !== 0n, from === U && to === D, `${what}, time of the loss`);
    }
  });

  it('that are against the protocol are dropped, counted by reason, and change nothing', () => {
    using bench = new BfdBench([bfdAz('az-a', { peers })]);
    bench.bringUp();
    bench.bringUp(path6, 1);
    const yourDiscr = bench.session().localDiscr;
    const good: BfdFields = { state: State.up, yourDiscr };
    const good6: BfdFields = { state: State.up, yourDiscr: bench.session(1).localDiscr };
    const short = bfdStart(path4)
      .ipv4({ src: path4.peer, dst: path4.local, ttl: 255 })
      .udp({ sport: 50_001, dport: 3784 })
      .payload(bfdPayload(good).slice(0, 20))
      .padTo(60);
    const cases: readonly (readonly [string, keyof typeof VnicBfdReject, Uint8Array, number?])[] = [
      ['from behind a router', 'ttl', bfdFrame({ ...path4, ttl: 254 }, good)],
      ['from behind a router', 'ttl', bfdFrame({ ...path6, ttl: 254 }, good6), 1],
      ['to the port of several hops', 'port', bfdFrame({ ...path4, port: 4784 }, good)],
      ['damaged', 'checksum', bfdFrame({ ...path4, checksum: 0x1234 }, good)],
      ['damaged', 'checksum', bfdFrame({ ...path6, checksum: 0x1234 }, good6), 1],
      ['without the checksum that IPv6 wants', 'checksum', bfdFrame({ ...path6, checksum: 0 }, good6), 1],
      ['version 0', 'version', bfdFrame(path4, { ...good, version: 0 })],
      ['version 2', 'version', bfdFrame(path4, { ...good, version: 2 })],
      ['cut off', 'length', short.build()],
      ['a length below 24', 'length', bfdFrame(path4, { ...good, length: 23 })],
      ['a length beyond the packet', 'length', bfdFrame(path4, { ...good, length: 25 })],
      ['a length beyond the packet', 'length', bfdFrame(path4, { ...good, length: 29 }, 4)],
      ['multiplier 0', 'detectMult', bfdFrame(path4, { ...good, detectMult: 0 })],
      ['multipoint', 'multipoint', bfdFrame(path4, { ...good, flags: Flag.multipoint })],
      ['without a discriminator', 'myDiscr', bfdFrame(path4, { ...good, myDiscr: 0 })],
      ['for another session', 'yourDiscr', bfdFrame(path4, { ...good, yourDiscr: (yourDiscr ^ 1) >>> 0 })],
      ['for the session of another peer', 'yourDiscr', bfdFrame(path4, good6)],
      ['Up without knowing us', 'yourDiscr', bfdFrame(path4, { ...good, yourDiscr: 0 })],
      ['Init without knowing us', 'yourDiscr', bfdFrame(path4, { state: State.init, yourDiscr: 0 })],
      ['authenticated', 'auth', bfdFrame(path4, { ...good, flags: Flag.auth, length: 28 }, 4)],
    ];
    for (const [name, reason, frame, index = 0] of cases) {
      const before = bench.session(index);
      const result = bench.receive(frame);
      assert.equal(result.action, XDP.drop, name);
      assert.deepEqual(result.frame, frame, `${name}: the frame is left alone`);
      const rejected = before.rejected.map((count, at) => (at === VnicBfdReject[reason] ? count + 1n : count));
      assert.deepEqual(bench.session(index), { ...before, rejected }, `${name}: ${reason}`);
    }
    assert.equal(bench.status()[0]?.sessions[0]?.rejected, BigInt(cases.filter(([, , , at]) => at !== 1).length));
  });

  it('random ones are taken exactly if a plain reading of RFC 5880 takes them', () => {
    using bench = new BfdBench();
    const { localDiscr } = bench.session();
    const fields = fc.record({
      version: fc.constantFrom(0, 1, 1, 1, 1, 1, 7),
      diag: fc.nat(31),
      state: fc.nat(3),
      flags: fc.nat(63),
      detectMult: fc.constantFrom(0, 1, 3, 3, 255),
      length: fc.constantFrom(0, 23, 24, 24, 24, 24, 25, 32, 255),
      myDiscr: fc.constantFrom(0, 1, 77, 0xffff_ffff),
      yourDiscr: fc.constantFrom(0, localDiscr, localDiscr, (localDiscr + 1) >>> 0),
      minTxUs: fc.constantFrom(0, 1, 50_000, 1_000_000, 0xffff_ffff),
      minRxUs: fc.constantFrom(0, 1, 50_000, 1_000_000, 0xffff_ffff),
    });
    const run = fc.property(fields, fc.constantFrom(0, 8), (one, trailing) => {
      const isRight =
        one.version === 1 &&
        one.length >= 24 &&
        one.length <= 24 + trailing &&
        one.detectMult > 0 &&
        (one.flags & (Flag.multipoint | Flag.auth)) === 0 &&
        one.myDiscr !== 0 &&
        (one.yourDiscr === 0 ? one.state <= State.down : one.yourDiscr === localDiscr);
      const before = bench.session();
      const { action, frame } = bench.receive(bfdFrame(path4, one, trailing));
      const after = bench.session();
      assert.equal(after.received - before.received, isRight ? 1n : 0n);
      if (!isRight) assert.equal(action, XDP.drop);
      if (isRight && (one.flags & Flag.poll) !== 0) assert.equal(action, XDP_TX, 'a poll is always answered');
      if (isRight) {
        const slowest = BigInt(Math.max(one.minTxUs, 50_000));
        assert.equal(after.detectNs, BigInt(one.detectMult) * slowest * 1000n);
      }
      if (action !== XDP_TX) return;
      assert.equal(frame.length, 66);
      const answer = readBfdPayload(frame.subarray(-24));
      const { version, state, yourDiscr, myDiscr, length, detectMult, minRxUs } = answer;
      assert.deepEqual(
        { version, state, yourDiscr, myDiscr, length, detectMult, minRxUs },
        {
          version: 1,
          state: after.state,
          yourDiscr: one.myDiscr,
          myDiscr: localDiscr,
          length: 24,
          detectMult: 3,
          minRxUs: 50_000,
        },
      );
      assert.notEqual(answer.flags & (Flag.poll | Flag.final), Flag.poll | Flag.final);
      assert.ok(answer.minTxUs >= Math.max(50_000, Math.min(one.minTxUs, 0xffff_ffff)));
      if (after.state !== State.up) assert.ok(answer.minTxUs >= 1_000_000, 'slow until it is up');
      assert.equal(internetChecksum(frame.subarray(14, 34)), 0);
    });
    fc.assert(run, { numRuns: 1500 });
  });

  it('of nobody we know, and of no form that an answer fits over, go the way of any other', () => {
    using bench = new BfdBench();
    const before = bench.session();
    const payload = bfdPayload();
    const start = bfdStart(path4);
    const ip = { src: path4.peer, dst: path4.local, ttl: 255 };
    const udp = { sport: 50_001, dport: 3784 };
    const frames: Record<string, Uint8Array> = {
      'an unknown peer': bfdFrame({ ...path4, peer: '10.1.0.3' }),
      'an IPv6 peer': bfdFrame(path6),
      'another port': bfdFrame({ ...path4, port: 3785 }),
      'IPv4 options': start
        .ipv4({ ...ip, options: Uint8Array.of(1, 1, 1, 1) })
        .udp(udp)
        .payload(payload)
        .build(),
      'a first fragment': start
        .ipv4({ ...ip, moreFragments: true })
        .udp(udp)
        .payload(payload)
        .build(),
      TCP: start.ipv4(ip).tcp({ dport: 3784 }).payload(payload).build(),
      'a group address': bfdStart(path4, { dst: '01:00:5e:00:00:01' }).ipv4(ip).udp(udp).payload(payload).build(),
    };
    for (const [name, frame] of Object.entries(frames)) {
      const result = bench.receive(frame);
      assert.equal(result.action, XDP.pass, name);
      assert.deepEqual(result.frame, frame, name);
    }
    const six = bfdStart(path6).ipv6({ src: path6.peer, dst: path6.local, hopLimit: 255 });
    bench.configure([bfdAz('az-a', { peers })]);
    assert.equal(bench.receive(six.destination().udp(udp).payload(payload).build()).action, XDP.pass);
    assert.deepEqual(bench.session(), before);
    assert.equal(bench.session(1).received, 0n);
  });

  it('with a sum of the pseudo header alone, or none on IPv4, are taken: a device was to do it', () => {
    using bench = new BfdBench();
    const pseudo = Uint8Array.of(...ipv4Bytes(path4.peer), ...ipv4Bytes(path4.local), 0, 17, ...u16(32));
    const partial = ~internetChecksum(pseudo) & 0xffff;
    assert.equal(bench.receive(bfdFrame({ ...path4, checksum: partial }, { flags: Flag.poll })).action, XDP_TX);
    assert.equal(bench.receive(bfdFrame({ ...path4, checksum: 0 }, { flags: Flag.poll })).action, XDP_TX);
    assert.equal(bench.session().received, 2n);
  });

  it('that are longer than need be, beyond one buffer even, are answered in one short frame', () => {
    for (const trailing of [1, 40, 6000]) {
      using bench = new BfdBench();
      const { action, frame } = bench.receive(bfdFrame(path4, {}, trailing));
      assert.equal(action, XDP_TX);
      const myDiscr = bench.session().localDiscr;
      assert.deepEqual(frame, answerFrame(path4, 0, { state: State.init, myDiscr, yourDiscr: 0x11223344 }));
    }
  });

  it('in a replayed capture are packets like any other', () => {
    using replay = new TestDataplane({ maxFlows: 64, replay: true });
    writeBfdSessions(replay.dataplane, [bfdAz('az-a')]);
    assert.equal(replay.replay(bfdFrame(path4), 1n), XDP.pass);
    assert.equal(replay.flows().size, 1);
    assert.equal(replay.dataplane.bfd.read(0).received, 0n);
  });
});
