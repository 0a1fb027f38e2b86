// SPDX-License-Identifier: Apache-2.0
/** What is told of AZs: what the kernel's watch sees of them, and the tables of the command line. */
import assert from 'node:assert/strict';
import { stripVTControlCharacters } from 'node:util';
import { azView } from '../../src/api/views.ts';
import { type AzWatchStatus, azWatchStatus, type WatchPorts } from '../../src/app/az-watch-status.ts';
import type { BfdStatus } from '../../src/app/bfd-sessions.ts';
import { azStatuses } from '../../src/app/device-status.ts';
import { azTable } from '../../src/cli/az-table.ts';
import { planText } from '../../src/cli/plan.ts';
import { rebalanceText } from '../../src/cli/rebalance.ts';
import { parseAz } from '../../src/config/azs.ts';
import { type VnicAzWatch, VnicBfdSession, VnicLoss, VnicWatch } from '../../src/maps/generated/abi.ts';
import { parseAddress } from '../../src/steering/rules/prefix.ts';

const MS = 1_000_000n;

/** What the maps hold in which only these fields of these rows, and of the first BFD sessions, are set. */
function watchOf(rows: Record<number, Partial<VnicAzWatch>>, sessions: Partial<VnicBfdSession>[] = []): WatchPorts {
  const watch = VnicWatch.read(new DataView(new ArrayBuffer(VnicWatch.size)), 0);
  const azs = watch.azs.map((az, row) => ({ ...az, ...rows[row] }));
  const session = VnicBfdSession.read(new DataView(new ArrayBuffer(VnicBfdSession.size)), 0);
  const bfd = { read: (index: number) => ({ ...session, ...sessions[index] }) };
  return { watch: { read: () => ({ ...watch, azs }) }, bfd: bfd as WatchPorts['bfd'] };
}

/** Three of them, which have the rows 1 to 3. */
const threeAzs = ['a', 'b', 'c'].map((name, index) => parseAz({ name, queues: index }));

describe('what the watch sees of an AZ', () => {
  const heard: Partial<VnicAzWatch> = {
    silenceNs: 20n * MS,
    floorPackets: 20n,
    heardNs: 995n * MS,
    lastWindowPackets: 412n,
    longestGapNs: 3n * MS + 1500n,
    windows: 8,
  };

  it('is when it was heard, and whether silence would mean something', () => {
    const ports = watchOf({ 1: heard, 2: { ...heard, windows: 7 }, 3: { ...heard, heardNs: 0n, windows: 0 } });
    const [armed, idle, mute] = azWatchStatus(ports, threeAzs, 1000n * MS);
    assert.deepEqual(armed, {
      silence: { armed: true, heardAgoMs: 5, lastWindowPackets: 412, floorPackets: 20, longestGapMs: 3.001 },
      bfd: [],
      refused: null,
    });
    assert.equal(idle?.silence?.armed, false);
    assert.deepEqual([mute?.silence?.armed, mute?.silence?.heardAgoMs], [false, null]);
  });

  it('is nothing for an AZ that it does not watch, and for a device without AZs', () => {
    assert.deepEqual(azWatchStatus(watchOf({ 1: { heardNs: 5n } }), threeAzs), [null, null, null]);
    assert.deepEqual(azWatchStatus(watchOf({}), []), []);
  });

  it('is its BFD sessions, and what it would do if enough queues were left', () => {
    const [first, ...others] = threeAzs;
    const azs = [
      { ...first!, ...parseAz({ name: 'a', queues: 0, bfd: { peers: ['10.1.0.1', '10.1.0.2'] } }) },
      ...others,
    ];
    const ports = watchOf({ 1: { bfdQuorum: 2, refused: VnicLoss.bfd }, 2: { ...heard, refused: VnicLoss.silence } }, [
      { localDiscr: 7, peer: { bytes: parseAddress('10.1.0.2') }, state: 1, lastRxNs: 900n * MS },
      { localDiscr: 8, peer: { bytes: parseAddress('10.1.0.1') }, state: 3, upSinceNs: 500n * MS },
    ]);
    const [bfd, silence] = azWatchStatus(ports, azs, 1000n * MS);
    assert.deepEqual([bfd?.silence, bfd?.refused], [null, 'bfd']);
    assert.deepEqual(
      bfd?.bfd.map(({ peer, state, upForMs, heardAgoMs }) => [peer, state, upForMs, heardAgoMs]),
      [
        ['10.1.0.1', 'up', 500, null],
        ['10.1.0.2', 'down', null, 100],
      ],
    );
    assert.deepEqual([silence?.refused, silence?.bfd], ['silence', []]);
  });

  it('was not in the future where a tick came between', () => {
    const [status] = azWatchStatus(watchOf({ 1: heard }), threeAzs, 994n * MS);
    assert.equal(status?.silence?.heardAgoMs, 0);
  });
});

describe('the table of AZs', () => {
  const silence = { armed: true, heardAgoMs: 0.4, lastWindowPackets: 400, floorPackets: 20, longestGapMs: 2 };
  const evidence =
    'nothing from 10.1.0.0/16 for 20.3 ms, 412 packets in the 20 ms before; switched by the kernel to table 7';

  const session = (peer: string, state: BfdStatus['state']): BfdStatus => ({
    peer,
    state,
    remoteState: null,
    diag: 'none',
    remoteDiag: 'none',
    left: false,
    upForMs: null,
    downForMs: null,
    detectMs: null,
    heardAgoMs: null,
    lostAfterMs: null,
    received: 0n,
    sent: 0n,
    rejected: 0n,
  });

  function tableOf(inputs: unknown[], watches: (AzWatchStatus | null)[], failed: string[] = []): string[] {
    const since = '2026-01-01T12:00:00.000Z';
    const failedAzs = failed.map((name) => ({ name, cause: 'silence' as const, since, evidence }));
    const views = azStatuses(inputs.map(parseAz), failedAzs, watches).map(azView);
    return stripVTControlCharacters(azTable(views)).split('\n');
  }

  it('says what may find each dead', () => {
    const probe = { type: 'tcp', targets: ['10.1.0.1:443', '10.1.0.2:443'] };
    const lines = tableOf(
      [
        { name: 'a', queues: 0, silence_ms: 20, probe },
        { name: 'b', queues: 1, probe: { type: 'icmp', target: '10.2.0.1' } },
        { name: 'c', queues: 2 },
        { name: 'd', queues: 3, bfd: { peers: ['10.4.0.1'] } },
      ],
      [],
    );
    assert.match(lines[0]!, /PREFIXES +DETECTORS$/);
    assert.match(lines[1]!, /silence 20 ms, probe tcp 2 targets$/);
    assert.match(lines[2]!, /probe icmp 1 target$/);
    assert.match(lines[3]!, /-$/);
    assert.match(lines[4]!, / bfd 1 peer$/);
  });

  it('says what the kernel sees of them', () => {
    const watched = { name: 'a', queues: 0, silence_ms: 20 };
    const seen = (watch: AzWatchStatus): string => tableOf([watched], [watch])[1]!;
    assert.match(tableOf([watched], [{ silence, bfd: [], refused: null }])[0]!, /SEEN$/);
    assert.match(seen({ silence, bfd: [], refused: null }), / {2}heard 0 ms ago$/);
    const idle = { ...silence, armed: false, heardAgoMs: 65_000 };
    assert.match(seen({ silence: idle, bfd: [], refused: null }), / {2}idle, heard 65 s ago$/);
    assert.match(seen({ silence: { ...silence, heardAgoMs: null }, bfd: [], refused: null }), /never heard$/);
    const bfd = [session('10.1.0.1', 'up'), session('10.1.0.2', 'init')];
    assert.match(seen({ silence: null, bfd, refused: 'bfd' }), /bfd 1 of 2 up, bfd: too few queues would be left$/);
  });

  it('has the evidence in short, cut at a word; the data has all of it', () => {
    const lines = tableOf([{ name: 'a', queues: 0 }], [], ['a']);
    assert.match(lines[0]!, /EVIDENCE$/);
    assert.match(
      lines[1]!,
      /^a +failed +silence +2026-01-01T12:00:00\.000Z .* nothing from 10\.1\.0\.0\/16 for 20\.3 ms, 412 packets in the…$/,
    );
    const [view] = azStatuses(
      [parseAz({ name: 'a', queues: 0 })],
      [{ name: 'a', cause: 'silence', since: '2026-01-01T12:00:00.000Z', evidence }],
    ).map(azView);
    assert.equal(view?.evidence, evidence);
  });
});

describe('what vnicctl rebalance prints', () => {
  const change = {
    device: 'eth0',
    performed: true,
    reason: 'moved' as const,
    before: 1.5,
    after: 1.04,
    reached: true,
    moved: 12,
    moves: [
      { from: 3, to: 1, buckets: 4 },
      { from: 3, to: 2, buckets: 8 },
    ],
    coolDownLeftMs: null,
    commitNs: 900,
  };
  const text = (difference: Partial<Parameters<typeof rebalanceText>[0]> = {}): string =>
    stripVTControlCharacters(rebalanceText({ ...change, ...difference }));

  it('is what moved, the most first', () => {
    assert.deepEqual(text().split('\n'), [
      'eth0: 12 buckets moved, fullest queue from 1.500 to 1.040 times its fair load, switched in 900 ns',
      'FROM  TO  BUCKETS',
      '   3   2        8',
      '   3   1        4',
    ]);
    assert.match(text({ performed: false, commitNs: null }), /^eth0: 12 buckets would move, .* fair load\n/);
    assert.match(text({ reached: false }), /as far as whole buckets go/);
    const moves = Array.from({ length: 25 }, (_, index) => ({ from: 0, to: index + 1, buckets: 1 }));
    assert.match(text({ moved: 25, moves }), /\nand 5 more; see -o json$/);
  });

  it('is why nothing moved', () => {
    const why = (difference: Partial<typeof change> | { reason: string; coolDownLeftMs?: number }): string =>
      text({ moved: 0, moves: [], performed: false, commitNs: null, ...difference } as Partial<typeof change>);
    assert.match(why({ reason: 'no_load' }), /nothing moved: no load was measured$/);
    assert.match(why({ reason: 'balanced' }), /1\.500 times its fair load, which is below the threshold$/);
    assert.match(why({ reason: 'cool_down', coolDownLeftMs: 40_000 }), /wait 40\.0 s, or use --force$/);
    assert.match(why({ reason: 'below_min_gain' }), /bring it to 1\.040 at best$/);
  });
});

describe('what vnicctl plan prints', () => {
  const plan = {
    device: 'eth0',
    az: 'az-a',
    action: 'fail' as const,
    moved: 4096,
    forced: 4096,
    planned: 0,
    collateral: 0,
    maxOverMean: 1.01,
    onFailed: 4096,
    flows: { known: 40, moved: 12 },
    queues: [
      { queue: 0, az: 'az-a', before: 4096, after: 0, loadBeforePps: 900.4, loadAfterPps: 0 },
      { queue: 1, az: 'az-b', before: 2048, after: 6144, loadBeforePps: 100, loadAfterPps: 1_000_400 },
      { queue: 2, az: null, before: 2048, after: 2048, loadBeforePps: 7, loadAfterPps: 7 },
    ],
    loadWindowMs: null,
    breaches: [],
    expectedDurationMs: { commit: 0.1, settled: 0.1 },
    moves: [{ from: 0, to: 1, buckets: 4096 }],
  };
  const lines = (difference: Partial<Parameters<typeof planText>[0]> = {}): string[] =>
    stripVTControlCharacters(planText({ ...plan, ...difference })).split('\n');

  it('is what would move and how long it takes, then the queues that change, and only these', () => {
    const [head, time, title, first, second, rest, ...others] = lines();
    assert.equal(
      head,
      'eth0: if az-a failed: 4,096 buckets and 12 of 40 flows would move, 0 collateral, fullest queue 1.010 times its share',
    );
    assert.equal(time, 'switched within 100.0 µs, all at once: their queues are lost');
    assert.match(title!, /^QUEUE +AZ +BEFORE +AFTER +CHANGE +PPS NOW +PPS AFTER$/);
    assert.match(first!, /^ +0 +az-a +4,096 +0 +-4,096 +900 +0$/);
    assert.match(second!, /^ +1 +az-b +2,048 +6,144 +\+4,096 +100 +1,000,400 +█+$/);
    assert.equal(rest, 'nothing changes for the other 1 queue');
    assert.deepEqual(others, []);
  });

  it('says which queues would be given too much, last', () => {
    const breaches = [{ queue: 1, loadPps: 1_000_400, capacityPps: 500_000 }];
    assert.equal(lines({ breaches }).at(-1), 'queue 1 would be given 1,000,400 packets/s, 2.00 times what it can take');
  });

  it('says how long a recovery takes, as far as that is known, and what was not counted is not told', () => {
    const recovery = { action: 'recover' as const, forced: 0, planned: 4096, flows: null };
    const settled = lines({ ...recovery, expectedDurationMs: { commit: 0.1, settled: 42 } });
    assert.match(settled[0]!, /^eth0: if az-a were recovered: 4,096 buckets would move/);
    assert.equal(
      settled[1],
      'switched within 100.0 µs; 4,096 buckets in order, flow by flow, expected to be through after 42.0 ms',
    );
    const unknown = lines({ ...recovery, expectedDurationMs: { commit: 0.1, settled: null } });
    assert.match(unknown[1]!, /flow by flow$/);
  });

  it('is one line where nothing changes', () => {
    assert.equal(lines({ moved: 0, forced: 0, queues: [plan.queues[2]!] }).length, 1);
  });
});
