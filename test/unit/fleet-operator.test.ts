// SPDX-License-Identifier: Apache-2.0
/** What operators do with a fleet, and trials of policies, over the store in memory. */
import assert from 'node:assert/strict';
import { MemoryStore } from '../../src/fleet/memory-store.ts';
import { FleetOperator } from '../../src/fleet/operator.ts';
import { rollOut } from '../../src/fleet/rollout.ts';
import { FakeDevices, MemoryFiles, policy, rule, TestFleet, type TestNode, until } from '../support/fleet-node.ts';
import { codeOf } from '../support/thrown.ts';

describe('an operator of a fleet', function () {
  this.timeout(30_000);
  let fleet: TestFleet;

  beforeEach(() => {
    fleet = new TestFleet();
  });
  afterEach(() => fleet[Symbol.asyncDispose]());

  it('returns to the policy before, as a new revision', async () => {
    const node = fleet.node('n1');
    for (const id of [1, 2, 3]) await fleet.operator.apply(policy({ rules: [rule(id)] }));
    await node.applied(3);
    assert.deepEqual(
      await fleet.operator.rollback(null).then(({ revision, rollbackOf }) => [revision, rollbackOf]),
      [4, 2],
    );
    await node.applied(4);
    assert.deepEqual(node.devices.has('eth0').rules, [2]);
    assert.equal((await fleet.operator.rollback(1)).rollbackOf, 1);
    await node.applied(5);
    assert.deepEqual(node.devices.has('eth0').rules, [1]);
    assert.equal(await codeOf(fleet.operator.rollback(99)), 'not_found');
  });

  it('has nothing to return to at first', async () => {
    assert.equal(await codeOf(fleet.operator.rollback(null)), 'not_found');
  });

  it('keeps the last policies only, and the contents that they name', async () => {
    for (let id = 1; id <= 25; id++) await fleet.operator.apply(policy({ rules: [rule(id === 24 ? 1 : id)] }));
    const {
      values: [history = [], contents = []],
    } = await fleet.store.read([{ prefix: '/vnic/history/' }, { prefix: '/vnic/content/' }]);
    assert.equal(history.length, 20);
    assert.equal(contents.length, 20);
    assert.equal((await fleet.operator.rollback(24)).rollbackOf, 24);
  });

  it('does not overwrite what another one does at the same time', async () => {
    const other = new FleetOperator(new MemoryStore(fleet.cluster), '/vnic', 'other');
    const results = await Promise.allSettled([
      fleet.operator.apply(policy({ rules: [rule(1)] })),
      other.apply(policy({ rules: [rule(2)] })),
    ]);
    assert.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    assert.equal((await fleet.operator.overview()).spec?.revision, 1);
  });

  describe('who tries a policy first', () => {
    const good = policy({ rules: [rule(1)] });
    const next = policy({ rules: [rule(2)] });

    async function five(): Promise<TestNode[]> {
      const nodes = ['n1', 'n2', 'n3', 'n4', 'n5'].map((name) => fleet.node(name));
      await fleet.operator.apply(good);
      await Promise.all(nodes.map((node) => node.applied(1)));
      await until(
        async () => (await fleet.operator.overview()).nodes.filter((node) => node.appliedRevision === 1).length === 5,
        () => 'reports',
      );
      return nodes;
    }

    const rulesOf = (nodes: TestNode[]) => nodes.map(({ devices }) => devices.has('eth0').rules.join());

    function options(
      onTrial: (nodes: readonly string[]) => void = () => undefined,
      signal = new AbortController().signal,
    ) {
      return { share: '40%', watchSeconds: 1, maxDropRise: 0.01, applySeconds: 2, onTrial, signal };
    }

    it('has it on the share, then on all', async () => {
      const nodes = await five();
      let during: string[] = [];
      let chosen: readonly string[] = [];
      const rolling = rollOut(
        fleet.operator,
        next,
        options((names) => {
          chosen = names;
        }),
      );
      await until(
        () => rulesOf(nodes).filter((rules) => rules === '2').length === 2,
        () => rulesOf(nodes).join(' '),
      );
      during = rulesOf(nodes);
      assert.equal(await codeOf(fleet.operator.apply(good)), 'conflict', 'nobody else changes the policy meanwhile');
      assert.equal((await rolling).revision, 2);
      await Promise.all(
        nodes.map((node) => node.until('all', ({ appliedRevision, canary }) => appliedRevision === 2 && !canary)),
      );
      assert.equal(chosen.length, 2);
      assert.deepEqual(
        during,
        nodes.map(({ node }) => (chosen.includes(node.view().node) ? '2' : '1')),
      );
      assert.deepEqual(rulesOf(nodes), ['2', '2', '2', '2', '2']);
      assert.equal((await fleet.operator.rollback(null)).revision, 3);
    });

    it('takes it back from all where one of them refuses it', async () => {
      const nodes = await five();
      const rolling = rollOut(
        fleet.operator,
        next,
        options((names) => {
          for (const { node, devices } of nodes) if (node.view().node === names[1]) devices.refusing = 'eth0';
        }),
      );
      await assert.rejects(rolling, { code: 'policy_refused', message: /kernel_refused: eth0: ENOMEM/ });
      for (const { devices } of nodes) devices.refusing = null;
      await Promise.all(
        nodes.map((node) =>
          node.until('back', ({ appliedRevision, problems }) => appliedRevision === 1 && problems.length === 0),
        ),
      );
      assert.deepEqual(rulesOf(nodes), ['1', '1', '1', '1', '1']);
      assert.equal((await fleet.operator.overview()).spec?.revision, 1);
    });

    it('takes it back where nodes drop more than before', async () => {
      const nodes = await five();
      const flow = setInterval(() => {
        for (const { devices } of nodes) {
          const device = devices.get('eth0');
          device.packets += 100;
          if (devices.has('eth0').rules.join() === '2') device.dropped += 5;
        }
      }, 5);
      try {
        await assert.rejects(rollOut(fleet.operator, next, options()), {
          code: 'policy_refused',
          message: /drops .* more of its packets/,
        });
      } finally {
        clearInterval(flow);
      }
      await Promise.all(nodes.map((node) => node.applied(1)));
      assert.deepEqual(rulesOf(nodes), ['1', '1', '1', '1', '1']);
    });

    it('takes it back when it is interrupted', async () => {
      const nodes = await five();
      const interrupted = new AbortController();
      const rolling = rollOut(
        fleet.operator,
        next,
        options(() => interrupted.abort(), interrupted.signal),
      );
      await assert.rejects(rolling, { code: 'policy_refused', message: /interrupted/ });
      await Promise.all(nodes.map((node) => node.applied(1)));
    });

    it('loses it when the one who tries it is gone: its lease ends, nodes go back by themselves, its content goes too', async () => {
      const nodes = await five();
      await fleet.operator.begin(next, ['n1', 'n4'], 1);
      await Promise.all([nodes[0]!.applied(2), nodes[3]!.applied(2)]);
      await Promise.all(nodes.map((node) => node.applied(1)));
      assert.deepEqual(rulesOf(nodes), ['1', '1', '1', '1', '1']);
      const {
        values: [contents = []],
      } = await fleet.store.read([{ prefix: '/vnic/content/' }]);
      assert.equal(contents.length, 1);
    });

    it('keeps a node’s trial over its restart while the store is away', async () => {
      const files = new MemoryFiles();
      const devices = new FakeDevices().add('eth0');
      const node = fleet.node('n1', {}, files, devices);
      await fleet.operator.apply(good);
      await node.applied(1);
      await fleet.operator.begin(next, ['n1'], 60);
      await node.until('the trial', ({ canary }) => canary);
      fleet.cluster.setReachable(false);
      await node.stop();
      const again = fleet.node('n1', {}, files, devices);
      await again.until('the trial', ({ appliedRevision, canary }) => appliedRevision === 2 && canary);
      assert.deepEqual(devices.has('eth0').rules, [2]);
    });

    it('needs a node that reports', async () => {
      assert.equal(await codeOf(rollOut(fleet.operator, next, options())), 'not_found');
    });
  });
});
