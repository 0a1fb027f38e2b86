// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { CliRig } from '../support/cli.ts';

interface AzRow {
  name: string;
  state: string;
  cause: string | null;
  queues: number[];
  weight: number;
  prefixes: string[];
}

interface AzReport {
  az: string;
  performed: boolean;
  moved: number;
  forced: number;
  planned: number;
  collateral: number;
  commitNs: number | null;
}

interface Explained {
  rule: number | null;
  az: string | null;
  bucket: number;
  queue: number | null;
  cpu: number | null;
  verdict: string;
  frameBytes: number;
  limit: { scope: string; over: boolean } | null;
}

const range = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index);

describe('vnicctl az, plan and explain', function () {
  // Each test runs vnicctl many times, perhaps on a busy machine.
  this.timeout(300_000);
  let rig: CliRig;

  before(() => {
    rig = new CliRig('azs');
    rig.ok(['attach', 'vnic0']);
    rig.ok('az set az-a --queues 0-10 --prefix 10.1.0.0/16 --prefix fd00:a::/32'.split(' '));
    rig.ok('az set az-b vnic0 --queues 11-21 --prefix 10.2.0.0/16'.split(' '));
    rig.ok('az set az-c --queues 22-31 --prefix 10.3.0.0/16 -d vnic0'.split(' '));
  });
  after(() => {
    rig?.run(['detach', 'vnic0']);
    rig?.[Symbol.dispose]();
  });

  const states = (): string[] => rig.json<AzRow[]>(['az', 'list']).map(({ name, state }) => `${name} ${state}`);
  const explain = (text: string): Explained => rig.json<Explained>(['explain', 'vnic0', ...text.split(' ')]);
  /** Queues of some flows of one AZ; each is a command. */
  const queuesOf = (az: number): number[] =>
    range(1, 6).map((host) => explain(`--src 10.${az}.0.${host}:4000 --dst 10.9.0.1:80 --proto tcp`).queue ?? -1);

  it('lists what was set, and changes only what is given', () => {
    assert.deepEqual(
      rig
        .json<AzRow[]>(['az', 'list', 'vnic0'])
        .map(({ name, queues, weight, prefixes }) => [name, queues, weight, prefixes]),
      [
        ['az-a', range(0, 10), 1, ['10.1.0.0/16', 'fd00:a::/32']],
        ['az-b', range(11, 21), 1, ['10.2.0.0/16']],
        ['az-c', range(22, 31), 1, ['10.3.0.0/16']],
      ],
    );
    rig.ok('az set az-b --weight 2'.split(' '));
    const b = rig.json<AzRow[]>(['az', 'list'])[1];
    assert.deepEqual([b?.weight, b?.queues, b?.prefixes], [2, range(11, 21), ['10.2.0.0/16']]);
    rig.ok('az set az-b --weight 1'.split(' '));
    assert.match(rig.ok(['az', 'list']), /^az-b +up .* 11-21 +10\.2\.0\.0\/16 +-$/m);
  });

  it('explains which AZ, bucket, queue and CPU a packet meets, for every protocol', () => {
    const tcp = explain('--src 10.1.0.5:4000 --dst 10.9.0.1:443 --proto tcp');
    assert.equal(tcp.az, 'az-a');
    assert.ok(tcp.queue !== null && tcp.queue <= 10);
    assert.notEqual(tcp.cpu, null);
    const back = explain('--src 10.9.0.1:443 --dst 10.1.0.5:4000 --proto tcp --direction egress');
    assert.deepEqual([back.bucket, back.queue, back.az], [tcp.bucket, tcp.queue, 'az-a']);
    const v6 = explain('--src [fd00:a::5]:4000 --dst [fd00:100::1]:443 --proto udp --bytes 1400');
    assert.deepEqual([v6.az, v6.frameBytes], ['az-a', 1400]);
    for (const proto of ['icmp', 'sctp', '47']) {
      assert.equal(explain(`--src 10.3.0.5 --dst 10.9.0.1 --proto ${proto}`).az, 'az-c', proto);
    }
    assert.equal(explain('--src 192.0.2.1:1 --dst 10.9.0.1:2 --proto udp').az, null);
    assert.match(
      rig.ok('explain vnic0 --src 10.1.0.5:4000 --dst 10.9.0.1:443 --proto tcp'.split(' ')),
      new RegExp(`^AZ +az-a\nbucket +${tcp.bucket} .*\ntable +\\d+\nqueue +${tcp.queue}\nCPU +${tcp.cpu}$`, 'm'),
    );
  });

  it('explains rules and limits without a side effect', () => {
    rig.ok('rule add --id 7 --src 10.2.0.0/16 --proto udp --dport 53 --queues 3 --rate 1mbit'.split(' '));
    rig.ok('rule add --id 8 --src 10.2.0.9 --action drop --priority 5'.split(' '));
    for (let n = 0; n < 3; n++) {
      const limited = explain('--src 10.2.0.5:999 --dst 10.9.0.1:53 --proto udp --bytes 1500');
      assert.deepEqual(
        [limited.rule, limited.queue, limited.verdict, limited.limit?.scope, limited.limit?.over],
        [7, 3, 'pass', 'rule', false],
      );
    }
    assert.equal(explain('--src 10.2.0.9:999 --dst 10.9.0.1:53 --proto udp').verdict, 'drop');
    assert.deepEqual(rig.json<unknown[]>(['flows']), []);
    const rules = rig.json<{ counters: { packets: number } }[]>(['rule', 'list']);
    assert.deepEqual(
      rules.map(({ counters }) => counters.packets),
      [0, 0],
    );
    rig.ok(['rule', 'delete', '7', '8']);
  });

  it('refuses packets that cannot be', () => {
    const wrong = (text: string): string => rig.refused(2, ['explain', 'vnic0', ...text.split(' ')]).lines[0] ?? '';
    assert.match(wrong('--src 10.1.0.5:4000 --dst fd00::1 --proto tcp'), /families/);
    assert.match(wrong('--src 10.1.0.5:4000 --dst 10.1.0.999 --proto tcp'), /10\.1\.0\.999/);
    assert.match(wrong('--src 10.1.0.5:4000 --dst 10.1.0.9:1 --proto nosuch'), /nosuch/);
    assert.match(wrong('--src 10.1.0.5:4000 --dst 10.1.0.9:1 --proto tcp --bytes 20'), /20 bytes/);
    assert.match(wrong('--src 10.1.0.5:4000 --proto tcp'), /--dst/);
    rig.refused(4, 'explain nosuch0 --src 10.1.0.5:4000 --dst 10.1.0.9:1 --proto tcp'.split(' '));
  });

  it('plans a failure, fails exactly as planned, and recovers to where it was', () => {
    const home = { a: queuesOf(1), b: queuesOf(2) };
    assert.ok(
      home.b.every((queue) => queue >= 11 && queue <= 21),
      String(home.b),
    );

    const plan = rig.json<
      AzReport & {
        queues: { queue: number; az: string; before: number; after: number }[];
        moves: { from: number; buckets: number }[];
      }
    >(['plan', '--az', 'az-b']);
    assert.equal(plan.collateral, 0);
    assert.ok(plan.moved > 0 && plan.forced === plan.moved);
    for (const { queue, az, before, after } of plan.queues) {
      if (az === 'az-b') assert.deepEqual([queue >= 11 && queue <= 21, before > 0, after], [true, true, 0]);
      else assert.ok(after >= before);
    }
    assert.ok(plan.moves.every(({ from }) => from >= 11 && from <= 21));
    assert.equal(
      plan.moves.reduce((sum, { buckets }) => sum + buckets, 0),
      plan.moved,
    );
    assert.deepEqual(states(), ['az-a up', 'az-b up', 'az-c up']);
    assert.match(
      rig.ok(['plan', '--az', 'az-b']),
      /^vnic0@\S+: if az-b failed: [\d,]+ buckets and \d+ of \d+ flows? would move, 0 collateral/,
    );
    assert.equal(rig.refused(6, ['plan', '--az', 'az-b', '--recover']).problem.code, 'conflict');

    const preview = rig.json<AzReport>(['az', 'fail', 'az-b', '--dry-run']);
    assert.deepEqual([preview.performed, preview.moved, preview.commitNs], [false, plan.moved, null]);
    assert.deepEqual(queuesOf(2), home.b);

    const failed = rig.json<AzReport>(['az', 'fail', 'az-b', 'vnic0']);
    assert.deepEqual([failed.performed, failed.moved, failed.collateral], [true, plan.moved, 0]);
    assert.ok((failed.commitNs ?? 0) > 0);
    assert.deepEqual(states(), ['az-a up', 'az-b failed', 'az-c up']);
    assert.equal(rig.json<AzRow[]>(['az', 'list'])[1]?.cause, 'manual');
    assert.ok(queuesOf(2).every((queue) => queue < 11 || queue > 21));
    assert.deepEqual(queuesOf(1), home.a);
    assert.equal(rig.json<{ queue: number; usable: boolean }[]>(['queues']).filter(({ usable }) => !usable).length, 11);
    assert.equal(rig.refused(6, ['az', 'fail', 'az-b']).problem.code, 'conflict');
    assert.deepEqual(rig.json<{ drift: unknown[] }>(['status', 'vnic0']).drift, []);

    const way = rig.json<AzReport & { action: string }>(['plan', '--az', 'az-b', '--recover']);
    const recovery = rig.json<AzReport>(['az', 'recover', 'az-b']);
    assert.deepEqual(
      [recovery.moved, recovery.collateral, way.action, way.moved],
      [way.moved, 0, 'recover', way.moved],
    );
    assert.deepEqual({ a: queuesOf(1), b: queuesOf(2) }, home);
    assert.equal(rig.refused(6, ['az', 'recover', 'az-b']).problem.code, 'conflict');
  });

  it('refuses with exit 3 to fail all but too few queues, unless forced', () => {
    rig.ok(['az', 'fail', 'az-a']);
    rig.ok('az set az-c --queues 22-26'.split(' '));
    rig.ok('az set az-d --queues 27-31'.split(' '));
    rig.ok(['az', 'fail', 'az-b']);
    const { problem } = rig.refused(3, ['az', 'fail', 'az-c']);
    assert.equal(problem.code, 'policy_refused');
    assert.equal(rig.refused(3, ['plan', '--az', 'az-c']).problem.code, 'policy_refused');
    rig.ok(['az', 'fail', 'az-c', '--force']);
    assert.deepEqual(
      [...new Set(queuesOf(3))].filter((queue) => queue < 27),
      [],
    );
    for (const az of ['az-a', 'az-b', 'az-c']) rig.ok(['az', 'recover', az]);
    rig.ok(['az', 'delete', 'az-d']);
    rig.ok('az set az-c --queues 22-31'.split(' '));
    assert.deepEqual(states(), ['az-a up', 'az-b up', 'az-c up']);
  });

  it('exit 4 for an AZ that is not there, exit 2 for one that cannot be', () => {
    for (const args of ['az fail az-x', 'az recover az-x', 'az delete az-x', 'plan --az az-x']) {
      assert.match(rig.refused(4, args.split(' ')).problem.remedy ?? '', /az-a, az-b, az-c/);
    }
    assert.match(
      rig.refused(2, 'az set az-x --queues 10-12'.split(' ')).lines[0] ?? '',
      /queue 10 is in AZ az-a already/,
    );
    assert.match(rig.refused(2, 'az set az-x --queues 40'.split(' ')).lines[0] ?? '', /queue 40/);
    assert.match(rig.refused(2, 'az set az-x'.split(' ')).lines[0] ?? '', /queues/);
    assert.deepEqual(states(), ['az-a up', 'az-b up', 'az-c up']);
  });
});
