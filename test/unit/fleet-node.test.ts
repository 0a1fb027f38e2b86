// SPDX-License-Identifier: Apache-2.0
/** Nodes of a fleet over the store in memory: what they do with what they are asked for, and while nobody asks. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { packContent } from '../../src/fleet/core/content.ts';
import { encodeValue } from '../../src/fleet/core/values.ts';
import { az, FakeDevices, MemoryFiles, policy, rule, TestFleet, until } from '../support/fleet-node.ts';
import { codeOf } from '../support/thrown.ts';

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
/** Several looks of a node. */
const A_WHILE_MS = 120;

describe('a node of a fleet', function () {
  this.timeout(30_000);
  let fleet: TestFleet;

  beforeEach(() => {
    fleet = new TestFleet();
  });
  afterEach(() => fleet[Symbol.asyncDispose]());

  it('takes over a policy that was there before it, and each one after', async () => {
    await fleet.operator.apply(policy({ azs: [az('az-a')], rules: [rule(1)] }));
    const node = fleet.node('n1');
    await node.applied(1);
    assert.deepEqual(node.devices.has('eth0'), { rules: [1], azs: ['az-a'] });
    await fleet.operator.apply(policy({ azs: [az('az-a')], rules: [rule(1), rule(2)] }));
    await node.applied(2);
    assert.deepEqual(node.devices.has('eth0').rules, [1, 2]);
    const view = node.node.view();
    assert.deepEqual([view.specRevision, view.drift, view.problems, view.connected], [2, [], [], true]);
  });

  it('does what is meant for its labels, and nothing where nothing is', async () => {
    const gateway = fleet.node('g', { labels: { role: 'gateway', rack: 'r1' } });
    const other = fleet.node('o', { labels: { role: 'proxy' } });
    await fleet.operator.apply(policy({ rules: [rule(7)] }, { role: 'gateway' }));
    await Promise.all([gateway.applied(1), other.applied(1)]);
    assert.deepEqual(gateway.devices.has('eth0').rules, [7]);
    assert.deepEqual(other.devices.done, []);
  });

  it('leaves what the policy does not name: rules of a device of which it has the AZs', async () => {
    const devices = new FakeDevices().add('eth0', { rules: [rule(5)] });
    const node = fleet.node('n1', {}, new MemoryFiles(), devices);
    await fleet.operator.apply(policy({ azs: [az('az-a')] }));
    await node.applied(1);
    assert.deepEqual(devices.has('eth0'), { rules: [5], azs: ['az-a'] });
  });

  it('reports under its lease, and is gone from the overview when it stops', async () => {
    const node = fleet.node('n1', { labels: { role: 'gateway' } });
    await fleet.operator.apply(policy({ rules: [rule(1)] }));
    await until(
      async () => (await fleet.operator.overview()).nodes[0]?.appliedRevision === 1,
      () => 'a report of revision 1',
    );
    const { nodes } = await fleet.operator.overview();
    assert.deepEqual(
      nodes.map(({ node: name, labels, vnicctl }) => [name, labels, vnicctl]),
      [['n1', { role: 'gateway' }, '1.2.3']],
    );
    await node.stop();
    assert.deepEqual((await fleet.operator.overview()).nodes, []);
  });

  describe('with several devices', () => {
    const both = {
      parts: [
        {
          selector: {},
          devices: {
            eth0: policy({ rules: [rule(1)] }).parts[0]!.devices['eth0']!,
            eth1: policy({ rules: [rule(2)] }).parts[0]!.devices['eth0']!,
          },
        },
      ],
    };

    for (const [how, refuse] of [
      ['a check', 'refusingCheck'],
      ['the kernel', 'refusing'],
    ] as const) {
      it(`puts a policy that ${how} refuses on one of them into effect on none, and says why`, async () => {
        const devices = new FakeDevices().add('eth0', { rules: [rule(9)] }).add('eth1');
        devices[refuse] = 'eth1';
        const node = fleet.node('n1', {}, new MemoryFiles(), devices);
        await fleet.operator.apply(both);
        await node.until('a refusal', ({ problems }) => problems.length > 0);
        assert.deepEqual(devices.has('eth0').rules, [9]);
        assert.deepEqual(devices.has('eth1').rules, []);
        assert.equal(node.node.view().appliedRevision, null);
        devices.refusing = null;
        devices.refusingCheck = null;
        await node.applied(1);
        assert.deepEqual([devices.has('eth0').rules, devices.has('eth1').rules], [[1], [2]]);
        assert.deepEqual(node.node.view().problems, []);
      });
    }

    it('waits for a device that is not there, and touches no other meanwhile', async () => {
      const node = fleet.node('n1');
      await fleet.operator.apply(both);
      await node.until('a refusal', ({ problems }) => problems[0]?.code === 'not_found');
      assert.deepEqual(node.devices.done, []);
      node.devices.add('eth1');
      await node.applied(1);
    });
  });

  describe('when others change its devices', () => {
    it('puts back what the policy says, and tells it', async () => {
      const node = fleet.node('n1');
      await fleet.operator.apply(policy({ rules: [rule(1)] }));
      await node.applied(1);
      node.devices.meddle('eth0', { rules: [rule(66)] });
      await until(
        () => node.devices.has('eth0').rules.join() === '1',
        () => node.devices.done.join(),
      );
      assert.ok(node.types().includes('fleet.drift'));
    });

    it('only shows it where it is told to leave it', async () => {
      const node = fleet.node('n1', { mendDrift: false });
      await fleet.operator.apply(policy({ rules: [rule(1)] }));
      await node.applied(1);
      node.devices.meddle('eth0', { rules: [rule(66)] });
      await node.until('drift', ({ drift }) => drift.join() === 'eth0');
      await sleep(A_WHILE_MS);
      assert.deepEqual(node.devices.has('eth0').rules, [66]);
      await fleet.operator.apply(policy({ rules: [rule(2)] }));
      await node.until('no drift', ({ drift, appliedRevision }) => drift.length === 0 && appliedRevision === 2);
    });
  });

  describe('while the store is away', () => {
    it('changes nothing, goes on as it was after a restart, and takes up what came meanwhile', async () => {
      const node = fleet.node('n1');
      await fleet.operator.apply(policy({ azs: [az('az-a'), az('az-b', '1')], rules: [rule(1)] }));
      await fleet.operator.failAz('az-a', { reason: '', force: false });
      await node.applied(1);
      await node.until('az-a down', ({ azs }) => azs.some(({ cause }) => cause === 'fleet'));
      fleet.cluster.setReachable(false);
      await node.until('no connection', ({ connected }) => !connected);
      const before = [...node.devices.done];
      await sleep(A_WHILE_MS);
      assert.deepEqual(node.devices.done, before);
      await node.stop();

      const again = fleet.node('n1', {}, node.files, node.devices);
      await again.applied(1);
      again.devices.meddle('eth0', { rules: [] });
      await until(
        () => again.devices.has('eth0').rules.join() === '1',
        () => again.devices.done.join(),
      );
      const view = again.node.view();
      assert.deepEqual(
        [view.specRevision, view.declarations.map((one) => one.az), view.connected],
        [1, ['az-a'], false],
      );
      assert.equal(again.devices.get('eth0').failed.get('az-a'), 'fleet');

      fleet.cluster.setReachable(true);
      await fleet.operator.recoverAz('az-a');
      await fleet.operator.apply(policy({ azs: [az('az-a'), az('az-b', '1')], rules: [rule(2)] }));
      await again.applied(2);
      await again.until('az-a up', ({ azs }) => azs.every(({ state }) => state === 'up'));
      assert.equal(again.types().filter((type) => type === 'fleet.disconnected').length, 1);
    });

    it('keeps everything when the store comes back empty, and says so', async () => {
      const node = fleet.node('n1');
      await fleet.operator.apply(policy({ azs: [az('az-a')], rules: [rule(1)] }));
      await fleet.operator.failAz('az-a', { reason: '', force: true });
      await node.until('az-a down', ({ azs }) => azs.some(({ cause }) => cause === 'fleet'));
      await fleet.store.commit({ deletes: [{ prefix: '/vnic/' }] });
      await node.until('the problem', ({ problems }) => problems.some(({ code }) => code === 'fleet_content'));
      await sleep(A_WHILE_MS);
      assert.deepEqual(node.devices.has('eth0').rules, [1]);
      assert.equal(node.devices.get('eth0').failed.get('az-a'), 'fleet');
    });

    it('lists again what it cannot watch any more', async () => {
      const node = fleet.node('n1');
      await fleet.operator.apply(policy({ rules: [rule(1)] }));
      await node.applied(1);
      fleet.cluster.setReachable(false);
      await node.until('no connection', ({ connected }) => !connected);
      fleet.cluster.setReachable(true);
      await fleet.operator.apply(policy({ rules: [rule(2)] }));
      fleet.cluster.compact(fleet.cluster.revision);
      await node.applied(2);
    });
  });

  describe('when what is in the store is bad', () => {
    const good = policy({ rules: [rule(1)] });

    async function afterGood() {
      const node = fleet.node('n1');
      await fleet.operator.apply(good);
      await node.applied(1);
      return node;
    }

    const spec = (sha256: string, chunks: number) =>
      encodeValue({ version: 1, revision: 2, sha256, chunks, since: '', by: '', rollbackOf: null } as {
        version: number;
      });

    const bad: Record<string, { values: () => Record<string, Uint8Array>; code: string }> = {
      'is not JSON': { values: () => ({ '/vnic/state/spec': encode('{') }), code: 'fleet_content' },
      'has a later version': { values: () => ({ '/vnic/state/spec': encode('{"version":2}') }), code: 'fleet_content' },
      'has no revision': { values: () => ({ '/vnic/state/spec': encode('{"version":1}') }), code: 'fleet_content' },
      'is not there': { values: () => ({ '/vnic/state/spec': spec('a'.repeat(64), 1) }), code: 'fleet_content' },
      'lacks a chunk': {
        values: () => {
          const { sha256, chunks } = packContent('{}');
          return { '/vnic/state/spec': spec(sha256, 2), [`/vnic/content/${sha256}/0000`]: chunks[0]! };
        },
        code: 'fleet_content',
      },
      'is not what its hash names': {
        values: () => ({
          '/vnic/state/spec': spec('b'.repeat(64), 1),
          [`/vnic/content/${'b'.repeat(64)}/0000`]: packContent('{}').chunks[0]!,
        }),
        code: 'fleet_content',
      },
      'has a rule that is not valid': {
        values: () => {
          const { sha256, chunks } = packContent(
            '{"parts":[{"devices":{"eth0":{"rules":[{"id":1,"action":"fly"}]}}}]}',
          );
          return { '/vnic/state/spec': spec(sha256, 1), [`/vnic/content/${sha256}/0000`]: chunks[0]! };
        },
        code: 'invalid_config',
      },
    };
    for (const [what, { values, code }] of Object.entries(bad)) {
      it(`refuses a policy that ${what}, keeps the one before it, and says ${code}`, async () => {
        const node = await afterGood();
        const done = [...node.devices.done];
        await fleet.store.commit({ puts: Object.entries(values()).map(([key, value]) => ({ key, value })) });
        await node.until(code, ({ problems }) => problems[0]?.code === code);
        await until(
          async () => (await fleet.operator.overview()).nodes[0]?.problems[0]?.code === code,
          () => 'the code in the report',
        );
        assert.equal(node.node.view().appliedRevision, 1);
        assert.deepEqual(node.devices.done, done);
        node.devices.meddle('eth0', { rules: [] });
        await until(
          () => node.devices.has('eth0').rules.join() === '1',
          () => 'drift is mended all the same',
        );
      });
    }

    it('ignores keys that are nobody’s, names them, and goes on', async () => {
      const node = await afterGood();
      await fleet.store.commit({ puts: [{ key: '/vnic/state/azs/a/b/c', value: encode('1') }] });
      await node.until('the problem', ({ problems }) => problems[0]?.key === '/vnic/state/azs/a/b/c');
      await fleet.operator.apply(policy({ rules: [rule(2)] }));
      await node.applied(2);
    });

    it('keeps a declaration as it was that cannot be read any more', async () => {
      const node = fleet.node('n1');
      await fleet.operator.apply(policy({ azs: [az('az-a')] }));
      await fleet.operator.failAz('az-a', { reason: '', force: true });
      await node.until('az-a down', ({ azs }) => azs.some(({ cause }) => cause === 'fleet'));
      await fleet.store.commit({ puts: [{ key: '/vnic/state/azs/az-a', value: encode('{"version":9}') }] });
      await node.until('the problem', ({ problems }) => problems.length > 0);
      await sleep(A_WHILE_MS);
      assert.equal(node.devices.get('eth0').failed.get('az-a'), 'fleet');
    });

    it('leaves its name to another node that has it and lives', async () => {
      const first = fleet.node('same');
      await until(
        async () => (await fleet.operator.overview()).nodes.length === 1,
        () => 'the first',
      );
      const second = fleet.node('same');
      await second.until('the conflict', ({ problems }) => problems.some(({ code }) => code === 'conflict'));
      await fleet.operator.apply(good);
      await Promise.all([first.applied(1), second.applied(1)]);
    });

    it('sets aside a file of its own that is damaged', async () => {
      const files = new MemoryFiles();
      files.files.set('fleet.json', Buffer.from('{"version":'));
      const node = fleet.node('n1', {}, files);
      await fleet.operator.apply(good);
      await node.applied(1);
      assert.ok(files.names().includes('fleet.json.damaged'));
      assert.ok(node.types().includes('fleet.state_damaged'));
    });
  });

  describe('and AZs', () => {
    const zones = policy({ azs: [az('az-a'), az('az-b', '1')] });

    async function three(quorum: 'majority' | 'off' = 'majority') {
      const nodes = ['n1', 'n2', 'n3'].map((name) => fleet.node(name, { quorum }));
      await fleet.operator.apply(zones);
      await Promise.all(nodes.map((node) => node.applied(1)));
      await until(
        async () => (await fleet.operator.overview()).nodes.every(({ azs }) => azs.length === 2),
        () => 'reports of the AZs',
      );
      return nodes;
    }
    const causes = (nodes: { devices: FakeDevices }[]) =>
      nodes.map(({ devices }) => devices.get('eth0').failed.get('az-a') ?? 'up');

    it('takes out of use what an operator declares down, and back what is not any more', async () => {
      const nodes = await three();
      await fleet.operator.failAz('az-a', { reason: 'fire', force: false });
      await until(
        () => causes(nodes).every((cause) => cause === 'fleet'),
        () => causes(nodes).join(),
      );
      await fleet.operator.recoverAz('az-a');
      await until(
        () => causes(nodes).every((cause) => cause === 'up'),
        () => causes(nodes).join(),
      );
      assert.equal(await codeOf(fleet.operator.recoverAz('az-a')), 'not_found');
    });

    it('does not keep what is declared down waiting for a look at the devices', async () => {
      const a = (await three())[0]!;
      const look = Promise.withResolvers<void>();
      a.devices.beforeLook = look.promise;
      try {
        await fleet.operator.failAz('az-a', { reason: '', force: false });
        await until(
          () => a.devices.done.includes('fail eth0 az-a'),
          () => JSON.stringify(a.devices.done),
        );
      } finally {
        look.resolve();
      }
      await a.until('told', () => a.types().includes('fleet.az_declared'));
      assert.equal(a.devices.done.filter((one) => one === 'fail eth0 az-a').length, 1);
    });

    it('takes over from its own detector what an operator declares down', async () => {
      const nodes = await three();
      nodes[0]!.devices.get('eth0').failed.set('az-a', 'probe');
      await fleet.operator.failAz('az-a', { reason: '', force: false });
      await until(
        () => causes(nodes).every((cause) => cause === 'fleet'),
        () => causes(nodes).join(),
      );
    });

    it('reaches all nodes when a majority saw it die, and is over when they see it alive', async () => {
      const nodes = await three();
      nodes[0]!.devices.get('eth0').failed.set('az-a', 'silence');
      await until(
        async () => (await fleet.operator.overview()).evidence.length === 1,
        () => 'evidence',
      );
      await sleep(A_WHILE_MS);
      assert.deepEqual(causes(nodes), ['silence', 'up', 'up'], 'one node is no quorum');
      nodes[1]!.devices.get('eth0').failed.set('az-a', 'bfd');
      await until(
        () => causes(nodes).join() === 'silence,bfd,fleet',
        () => causes(nodes).join(),
      );
      const [declaration] = (await fleet.operator.overview()).declarations;
      assert.deepEqual([declaration?.by, declaration?.witnesses, declaration?.needed], ['quorum', ['n1', 'n2'], 2]);
      nodes[0]!.devices.get('eth0').failed.delete('az-a');
      await until(
        () => causes(nodes).join() === 'up,bfd,up',
        () => causes(nodes).join(),
      );
      assert.deepEqual((await fleet.operator.overview()).declarations, []);
      assert.ok(!nodes[0]!.devices.done.includes('fail eth0 az-a'), 'a witness is its own judge');
    });

    it('is left to each node where quorums are off', async () => {
      const nodes = await three('off');
      for (const node of nodes.slice(0, 2)) node.devices.get('eth0').failed.set('az-a', 'probe');
      await until(
        async () => (await fleet.operator.overview()).evidence.length === 2,
        () => 'evidence',
      );
      await sleep(A_WHILE_MS);
      assert.deepEqual(causes(nodes), ['probe', 'probe', 'up']);
    });

    it('overrules a quorum by hand until somebody sees it die anew', async () => {
      const nodes = await three();
      for (const node of nodes.slice(0, 2)) node.devices.get('eth0').failed.set('az-a', 'probe');
      await until(
        () => causes(nodes)[2] === 'fleet',
        () => causes(nodes).join(),
      );
      await fleet.operator.recoverAz('az-a');
      await until(
        () => causes(nodes)[2] === 'up',
        () => causes(nodes).join(),
      );
      await sleep(A_WHILE_MS);
      assert.equal(causes(nodes)[2], 'up');
    });
  });
});
