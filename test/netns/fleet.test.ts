// SPDX-License-Identifier: Apache-2.0
/** A fleet of real daemons over a real etcd; what `make bench BENCH=fleet` measures, in short. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { parsePolicy } from '../../src/fleet/core/policy.ts';
import { FleetRig, PREFIX, policyOf } from '../rig/fleet.ts';
import { endure, faults, measureAz, measurePolicy } from '../rig/scenarios/fleet.ts';
import { vnicctl } from '../support/cli.ts';
import { etcdProgram, noEtcd } from '../support/etcd.ts';
import { until } from '../support/fleet-node.ts';
import { skip } from '../support/skip.ts';

interface View {
  node: string;
  connected: boolean;
  specRevision: number | null;
  appliedRevision: number | null;
  drift: string[];
  problems: { code: string }[];
  lastSyncAgeSeconds: number;
}

describe('a fleet of daemons over etcd', function () {
  this.timeout(300_000);
  let rig: FleetRig;
  let version = 0;

  before(async function () {
    if (etcdProgram === null) skip(this, noEtcd);
    rig = await FleetRig.start({ nodes: 3 });
  });
  after(() => rig?.[Symbol.asyncDispose]());

  function cli(...args: string[]) {
    const where = ['--endpoints', rig.etcd.endpoints.join(), '--prefix', PREFIX];
    const command = ['nsenter', `--net=/run/netns/${rig.network.fabric}`, vnicctl, 'fleet', ...args, ...where];
    const { status, stdout, stderr } = spawnSync(command[0]!, command.slice(1), {
      encoding: 'utf8',
      env: { ...process.env, NO_COLOR: '1' },
    });
    return { status, stdout, stderr };
  }

  it('has a policy in effect on all nodes, and shows it on each of them', async () => {
    for (let round = 0; round < 3; round++) await measurePolicy(rig, ++version);
    for (const node of rig.nodes) {
      const view = await node.ask<View>('GET', '/api/v1/fleet');
      assert.deepEqual(
        [view.node, view.connected, view.specRevision, view.appliedRevision, view.drift, view.problems],
        [node.name, true, version, version, [], []],
      );
      const spec = await node.ask<{ rules: { id: number; limit: { rate: string } }[] }>(
        'GET',
        '/api/v1/devices/eth0/spec',
      );
      assert.deepEqual(
        spec.rules.map(({ limit }) => limit.rate),
        Array<string>(2).fill(`${1000 + version}kbit`),
      );
    }
  });

  it('takes an AZ that is declared down out of use on all nodes, and back', async () => {
    await measureAz(rig, 'az-a');
    const [node] = rig.nodes;
    const { items } = await node!.ask<{ items: { name: string; state: string }[] }>('GET', '/api/v1/devices/eth0/azs');
    assert.deepEqual(
      items.map(({ state }) => state),
      ['up', 'up'],
    );
  });

  for (const fault of faults({ awayMs: 3000 })) {
    it(`touches nobody’s traffic and converges after it: ${fault.name}`, async () => {
      version += 2;
      const { traffic, halves, looks } = await endure(rig, fault, version);
      assert.ok(traffic.sent > 100 && looks > 5, `sent ${traffic.sent}, ${looks} looks`);
      assert.deepEqual({ lost: traffic.lost, halves }, { lost: 0, halves: 0 });
    });
  }

  it('goes on as it was when a node starts again while etcd is away', async () => {
    const [node] = rig.nodes;
    for (const member of rig.etcd.members) member.freeze();
    try {
      await node!.kill();
      node!.run();
      await node!.ready();
      const known = async () => await node!.ask<View>('GET', '/api/v1/fleet');
      await until(
        async () => (await known()).problems.length > 0,
        () => 'etcd is missed',
      );
      const view = await known();
      assert.equal(view.appliedRevision, view.specRevision);
      assert.ok(view.specRevision !== null && !view.connected);
      const spec = await node!.ask<{ rules: unknown[] }>('GET', '/api/v1/devices/eth0/spec');
      assert.equal(spec.rules.length, 2);
    } finally {
      for (const member of rig.etcd.members) member.thaw();
    }
    await rig.etcd.ready();
    await measurePolicy(rig, ++version);
  });

  it('is led by vnicctl fleet', async () => {
    const file = path.join(rig.etcd.folder, 'policy.yaml');
    const text = (id: number) =>
      `parts:\n  - devices:\n      eth0:\n        rules:\n          - {id: ${id}, match: {proto: tcp, dstPort: 22}, action: drop}\n`;
    const rules = async (): Promise<string[]> =>
      await Promise.all(
        rig.nodes.map(async (node) => {
          const { rules: found } = await node.ask<{ rules: { id: number }[] }>('GET', '/api/v1/devices/eth0/spec');
          return found.map(({ id }) => id).join();
        }),
      );
    const all = (ids: string) =>
      until(
        async () => (await rules()).every((found) => found === ids),
        () => ids,
      );

    writeFileSync(file, text(50));
    const applied = cli('apply', file);
    assert.match(applied.stdout, /^Revision \d+ is in force\.\n$/, applied.stderr);
    await all('50');

    writeFileSync(file, text(51));
    const trial = cli('apply', file, '--canary', '1', '--watch', '1');
    assert.match(trial.stderr, /is tried on node\d/);
    assert.equal(trial.status, 0, trial.stderr);
    await all('51');

    assert.match(cli('rollback').stdout, /the policy of revision \d+/);
    await all('50');
    writeFileSync(file, 'parts: [{devices: {eth0: {rules: [{id: 1, action: fly}]}}}]\n');
    const refused = cli('apply', file);
    assert.deepEqual([refused.status, refused.stdout], [2, '']);
    assert.match(refused.stderr, /rules\[0\]/);

    assert.equal(cli('az', 'fail', 'az-a', '--reason', 'maintenance').stdout, 'az-a is declared down.\n');
    await until(
      () =>
        cli('status')
          .stdout.split('\n')
          .filter((line) => /az-a +ok$/.test(line)).length === 3,
      () => cli('status').stdout,
    );
    assert.match(cli('status').stdout, /Down: az-a, since .* by operator .*: maintenance/);
    assert.equal(cli('az', 'recover', 'az-a').status, 0);
    assert.equal(cli('az', 'recover', 'az-a').status, 4);
    const { nodes } = JSON.parse(cli('status', '-o', 'json').stdout) as { nodes: { labels: Record<string, string> }[] };
    assert.deepEqual(
      nodes.map(({ labels }) => labels['rack']),
      ['r0', 'r1', 'r2'],
    );
    assert.match(
      execFileSync(vnicctl, ['fleet', 'node', '--socket', rig.nodes[0]!.socket], { encoding: 'utf8' }),
      /node +node0 of/,
    );
  });

  it('has a quorum of nodes that saw an AZ die tell the others', async () => {
    await rig.operate((operator) => operator.apply(policyOf(++version)));
    await until(
      async () => (await rig.operate((operator) => operator.overview())).nodes.every(({ azs }) => azs.length === 2),
      () => 'AZs in the reports',
    );
    // Two of three nodes watch it, and find it dead: nobody answers there.
    const probe = { type: 'tcp', target: '10.251.250.250:443', interval_ms: 50, timeout_ms: 40, fall: 2 };
    const body = { queues: '0', prefixes: ['10.251.0.0/16'], probe };
    // From now on the policy says nothing about these devices.
    await rig.operate((operator) => operator.apply(parsePolicy({ parts: [{ devices: {} }] }, 'nothing')));
    for (const node of rig.nodes.slice(0, 2)) await node.ask('PUT', '/api/v1/devices/eth0/azs/az-a', body);
    const causes = async () =>
      await Promise.all(
        rig.nodes.map(
          async (node) => (await node.ask<{ cause: string }>('GET', '/api/v1/devices/eth0/azs/az-a')).cause,
        ),
      );
    await until(
      async () => (await causes()).join() === 'probe,probe,fleet',
      () => JSON.stringify(rig.nodes[2]!.log.slice(-5)),
    );
    const { declarations } = await rig.operate((operator) => operator.overview());
    assert.deepEqual(
      declarations.map(({ by, witnesses }) => [by, witnesses]),
      [['quorum', ['node0', 'node1']]],
    );
  });
});
