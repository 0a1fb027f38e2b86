// SPDX-License-Identifier: Apache-2.0
/** What a BFD session agrees with its peer, when it is lost, and what that says of its AZ. */
import assert from 'node:assert/strict';
import { writeBfdSessions } from '../../src/app/bfd-sessions.ts';
import {
  BfdBench,
  bfdAz,
  bfdFrame,
  Flag,
  Judgement,
  path4,
  path6,
  readBfdPayload,
  State,
  XDP_TX,
} from '../support/bfd.ts';
import { XDP } from '../support/dataplane.ts';
import { thrownBy } from '../support/thrown.ts';

const MS = 1_000_000n;
const peers = [path4.peer, path6.peer];
const fast = { minTxUs: 50_000, minRxUs: 50_000 };

describe('times of a BFD session', () => {
  it('a poll is answered at once with F, and never with P as well', () => {
    using bench = new BfdBench();
    bench.bringUp();
    const yourDiscr = bench.session().localDiscr;
    for (let repeat = 0; repeat < 5; repeat++) {
      const fields = { state: State.up, yourDiscr, flags: Flag.poll, ...fast };
      const { action, frame } = bench.receive(bfdFrame(path4, fields));
      assert.equal(action, XDP_TX);
      const { flags } = readBfdPayload(frame.subarray(-24));
      assert.equal(flags & (Flag.poll | Flag.final), Flag.final);
    }
  });

  it('a changed interval of ours is polled for until the peer says F', () => {
    using bench = new BfdBench();
    bench.bringUp();
    // The peer becomes fast, and so do we.
    assert.equal(bench.exchange({ state: State.up, flags: Flag.poll, ...fast })?.minTxUs, 50_000);
    for (let repeat = 0; repeat < 3; repeat++) {
      const answer = bench.exchange({ state: State.up, ...fast });
      assert.equal(answer!.flags & Flag.poll, Flag.poll, 'polling');
    }
    const answer = bench.exchange({ state: State.up, flags: Flag.final, ...fast });
    assert.equal(answer!.flags & (Flag.poll | Flag.final), 0, 'agreed');
    assert.equal(bench.exchange({ state: State.up, ...fast })!.flags & Flag.poll, 0);
  });

  it('new settings are agreed while the session stays up; a shorter detection time counts after that only', () => {
    using bench = new BfdBench();
    bench.bringUp();
    bench.exchange({ state: State.up, ...fast });
    bench.exchange({ state: State.up, flags: Flag.final, ...fast });
    const before = bench.session();
    bench.configure([bfdAz('az-a', { intervalMs: 200, detectMult: 5 })]);
    const slower = bench.exchange({ state: State.up, ...fast });
    assert.deepEqual([slower?.minTxUs, slower?.minRxUs, slower?.detectMult], [200_000, 200_000, 5]);
    assert.equal(bench.session().detectNs, 600n * MS, 'a longer one counts at once');
    bench.exchange({ state: State.up, flags: Flag.final, ...fast });

    bench.configure([bfdAz('az-a', { intervalMs: 20 })]);
    bench.exchange({ state: State.up, minTxUs: 20_000 });
    assert.equal(bench.session().detectNs, 600n * MS, 'the peer may not know yet');
    bench.exchange({ state: State.up, minTxUs: 20_000, flags: Flag.final });
    assert.equal(bench.session().detectNs, 60n * MS);
    const { localDiscr, state, upSinceNs } = bench.session();
    assert.deepEqual([localDiscr, state, upSinceNs], [before.localDiscr, State.up, before.upSinceNs]);
  });

  it('says the rate of a peer that is slower, and how late it can be for one that is faster than it wants us to be', () => {
    using bench = new BfdBench();
    bench.bringUp();
    assert.equal(bench.exchange({ state: State.up, minTxUs: 300_000, minRxUs: 50_000 })?.minTxUs, 300_000);
    assert.equal(bench.exchange({ state: State.up, minTxUs: 50_000, minRxUs: 400_000 })?.minTxUs, 350_000);
    // What is too much for the field is not less.
    assert.equal(bench.exchange({ state: State.up, minTxUs: 2 ** 31, minRxUs: 2 ** 32 - 1 })?.minTxUs, 2 ** 32 - 1);
  });

  it('is silent towards a peer that wants no packets or has demand mode, but for polls', () => {
    using bench = new BfdBench();
    bench.bringUp();
    assert.equal(bench.exchange({ state: State.up, minRxUs: 0 }), null);
    assert.equal(bench.exchange({ state: State.up, minRxUs: 0, flags: Flag.poll })?.state, State.up);
    assert.equal(bench.exchange({ state: State.up, flags: Flag.demand }), null);
    assert.equal(bench.exchange({ state: State.up, flags: Flag.demand | Flag.poll })?.state, State.up);
    assert.equal(bench.session().received, 6n);
  });

  it('two systems that both only answer do not answer each other without end', () => {
    using one = new BfdBench([bfdAz('az-a', { peers: [path4.local] })]);
    using other = new BfdBench([bfdAz('az-a', { peers: [path4.peer] })]);
    let frame = bfdFrame(path4, {});
    let sent = 0;
    for (const bench of Array.from({ length: 1000 }, (_, index) => (index % 2 === 0 ? other : one))) {
      const result = bench.receive(frame);
      if (result.action !== XDP_TX) break;
      frame = result.frame;
      sent++;
    }
    assert.ok(sent <= 8, `${sent} answers`);
  });

  it('what comes far too fast is taken and not answered', () => {
    using bench = new BfdBench();
    bench.bringUp();
    const yourDiscr = bench.session().localDiscr;
    bench.exchange({ state: State.up, minTxUs: 60_000_000, minRxUs: 60_000_000 });
    const frame = bfdFrame(path4, { state: State.up, yourDiscr, minTxUs: 60_000_000, minRxUs: 60_000_000 });
    const { received, sent } = bench.session();
    for (let repeat = 0; repeat < 100; repeat++) assert.equal(bench.receive(frame).action, XDP.drop);
    assert.equal(bench.session().received, received + 100n);
    assert.equal(bench.session().sent, sent);
  });
});

describe('loss of a BFD session', () => {
  it('is its detection time without a packet, in Up and Init, and not one nanosecond less', () => {
    using bench = new BfdBench();
    for (const from of [State.init, State.up]) {
      bench.bringUp();
      bench.exchange({ state: State.up, detectMult: 4, ...fast });
      bench.put({ state: from });
      const { lastRxNs, detectNs } = bench.session();
      assert.equal(detectNs, 200n * MS);
      assert.equal(bench.judge(lastRxNs + detectNs).expired, 0);
      // A packet that another CPU took after the timer had read the clock.
      assert.equal(bench.judge(lastRxNs - MS).expired, 0);
      assert.equal(bench.session().state, from);
      assert.equal(bench.judge(lastRxNs + detectNs + 1n).expired, 1);
      const { state, diag, remoteDiscr, silentNs, downSinceNs } = bench.session();
      assert.deepEqual({ state, diag, remoteDiscr }, { state: State.down, diag: 1, remoteDiscr: 0 });
      const loss = from === State.up ? [detectNs + 1n, lastRxNs + detectNs + 1n] : [0n, 0n];
      assert.deepEqual([silentNs, downSinceNs], loss, 'the time of the loss of a session that was up');
      assert.equal(bench.judge(lastRxNs + 10n * detectNs).expired, 0, 'once');
      const [shown] = bench.status(lastRxNs + detectNs + MS)[0]!.sessions;
      assert.equal(shown?.state, 'down');
      assert.equal(shown?.diag, 'control detection time expired');
      assert.equal(shown?.upForMs, null);
      if (from === State.up) assert.ok(shown!.lostAfterMs! >= 200 && shown!.lostAfterMs! < 201);
      assert.equal(bench.exchange({ state: State.up })?.diag, 1, 'the peer is told why');
      assert.equal(bench.session().state, State.down, 'and has to begin anew');
    }
  });

  it('takes an AZ below its quorum, but a session that was never up, or was taken down on purpose, does not', () => {
    using bench = new BfdBench([bfdAz('az-a', { peers }), bfdAz('az-b', { peers: ['10.2.0.2'] })]);
    const now = (): bigint => process.hrtime.bigint();
    const judge = (needed: number, at = now()): number => bench.judge(at, 1, needed).judgement;
    assert.equal(judge(1), Judgement.enough, 'none was ever up');
    bench.bringUp(path4, 0);
    assert.equal(judge(1), Judgement.reached);
    assert.equal(judge(2), Judgement.enough, 'the second was never up');
    bench.bringUp(path6, 1);
    assert.equal(judge(2), Judgement.reached);
    assert.equal(bench.judge(now(), 2, 1).judgement, Judgement.enough, 'the other AZ is another matter');

    bench.exchange({ state: State.adminDown, diag: 7 }, path6, 1);
    const [, left] = bench.status()[0]!.sessions;
    assert.deepEqual([left?.state, left?.remoteState, left?.left], ['down', 'admin_down', true]);
    assert.equal(left?.remoteDiag, 'administratively down');
    assert.equal(judge(2), Judgement.enough);
    assert.equal(judge(1), Judgement.reached);
    bench.exchange({ state: State.adminDown }, path4, 0);
    assert.equal(judge(1), Judgement.enough, 'all of them on purpose');
    // On its way back it is Down and Init for a while.
    bench.exchange({ state: State.down, yourDiscr: 0 }, path4, 0);
    assert.equal(bench.session(0).state, State.init);
    assert.equal(judge(1), Judgement.enough);
    bench.exchange({ state: State.init }, path4, 0);
    assert.equal(bench.status()[0]!.sessions[0]?.left, false);
    assert.equal(judge(2), Judgement.enough);

    bench.exchange({ state: State.down, diag: 1, yourDiscr: 0 }, path4, 0);
    assert.equal(bench.status()[0]!.sessions[0]?.diag, 'neighbor signaled session down');
    assert.equal(judge(1), Judgement.short);
    assert.equal(judge(2), Judgement.short);
  });

  it('of one out of two is none of the AZ while one is enough', () => {
    using bench = new BfdBench([bfdAz('az-a', { peers })]);
    bench.bringUp(path4, 0);
    bench.bringUp(path6, 1);
    const { lastRxNs, detectNs } = bench.session(0);
    bench.put({ lastRxNs: lastRxNs + 1000n * detectNs }, 1);
    const at = lastRxNs + detectNs + 1n;
    assert.deepEqual(bench.judge(at, 1, 1), { expired: 1, judgement: Judgement.reached });
    assert.deepEqual(bench.judge(at, 1, 2), { expired: 0, judgement: Judgement.short });
  });
});

describe('BFD sessions of a device', () => {
  it('go on when their AZ is written again, moves to another row, or gets another peer', () => {
    using bench = new BfdBench([bfdAz('az-a')]);
    bench.bringUp();
    const before = bench.session();
    bench.configure([bfdAz('az-new', { peers: [path6.peer] }), bfdAz('az-a')]);
    assert.deepEqual(bench.session(), { ...before, az: 2 });
    assert.equal(bench.session(1).az, 1);
    assert.deepEqual(
      bench.status().map(({ az, sessions }) => [az, ...sessions.map(({ peer, state }) => `${peer} ${state}`)]),
      [
        ['az-new', 'fd00:a::2 down'],
        ['az-a', '10.1.0.2 up'],
      ],
    );
  });

  it('end with their peer, and begin anew over several hops', () => {
    using bench = new BfdBench([bfdAz('az-a', { peers })]);
    bench.bringUp();
    const { localDiscr } = bench.session();
    bench.configure([bfdAz('az-a', { peers: [path6.peer] })]);
    assert.equal(bench.receive(bfdFrame(path4, { state: State.up, yourDiscr: localDiscr })).action, XDP.pass);
    bench.configure([bfdAz('az-a', { multihop: true })]);
    const [shown] = bench.status()[0]!.sessions;
    assert.deepEqual([shown?.state, shown?.received, shown?.upForMs], ['down', 0n, null]);
    bench.configure([]);
    assert.deepEqual(bench.status(), []);
    for (let index = 0; index < bench.test.dataplane.bfd.length; index++) {
      assert.equal(bench.session(index).localDiscr, 0);
    }
  });

  it('are 32, each with a discriminator of its own; a 33rd is refused and nothing changed', () => {
    const many = (count: number) => [
      bfdAz('az-a', { peers: Array.from({ length: count }, (_, at) => `10.1.1.${at}`) }),
    ];
    using bench = new BfdBench(many(32));
    const discriminators = (): number[] => Array.from({ length: 32 }, (_, at) => bench.session(at).localDiscr);
    const first = discriminators();
    assert.equal(new Set(first).size, 32);
    assert.ok(!first.includes(0));
    const last = { peer: '10.1.1.31', local: path4.local };
    const { action, frame } = bench.receive(bfdFrame(last));
    assert.equal(action, XDP_TX);
    const sport = new DataView(frame.buffer, frame.byteOffset).getUint16(34);
    assert.equal(sport, 49_152 + 31, 'and a source port');
    const error = thrownBy(() => writeBfdSessions(bench.test.dataplane, many(33)));
    assert.equal(error.code, 'capacity_exceeded');
    assert.deepEqual(discriminators(), first);
    bench.configure(many(32).map((az) => ({ ...az, bfd: { ...az.bfd!, peers: az.bfd!.peers.toReversed() } })));
    assert.deepEqual(discriminators(), first, 'in any order');
  });
});
