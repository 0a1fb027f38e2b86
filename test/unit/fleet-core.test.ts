// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { canaryCount, chooseCanaries, dropRise, judge } from '../../src/fleet/core/canary.ts';
import { CHUNK_BYTES, packContent, unpackContent } from '../../src/fleet/core/content.ts';
import { FleetKeys } from '../../src/fleet/core/keys.ts';
import { formatPolicy, parsePolicy, policyFor } from '../../src/fleet/core/policy.ts';
import { declareByQuorum, withoutWitness, witnessesNeeded } from '../../src/fleet/core/quorum.ts';
import { type ObservedDevice, planAzs, planPolicy } from '../../src/fleet/core/reconcile.ts';
import { canMeet, selects } from '../../src/fleet/core/selector.ts';
import { emptyState, readState } from '../../src/fleet/core/state.ts';
import {
  type DeclarationValue,
  type EvidenceValue,
  encodeValue,
  type NodeStatus,
} from '../../src/fleet/core/values.ts';
import { az, rule } from '../support/fleet-node.ts';
import { thrownBy } from '../support/thrown.ts';

const labels = fc.dictionary(fc.constantFrom('role', 'rack', 'zone'), fc.constantFrom('a', 'b'), { maxKeys: 3 });

describe('selectors', () => {
  it('can meet exactly if some node is selected by both', () => {
    fc.assert(
      fc.property(labels, labels, (a, b) => {
        const joined = { ...a, ...b };
        assert.equal(canMeet(a, b), selects(a, joined) && selects(b, joined));
      }),
    );
  });

  it('select all nodes where they name no label', () => {
    fc.assert(fc.property(labels, (any) => assert.ok(selects({}, any))));
  });
});

describe('a policy', () => {
  const part = (selector: object, device: object) => ({ selector, devices: { eth0: device } });

  it('is the same policy, and the same text, after it was written and read', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 1000 })), labels, (ids, selector) => {
        const policy = parsePolicy({ parts: [part(selector, { azs: [az('az-a')], rules: ids.map(rule) })] }, 'test');
        const text = formatPolicy(policy);
        assert.equal(formatPolicy(parsePolicy(JSON.parse(text), 'test')), text);
      }),
      { numRuns: 30 },
    );
  });

  it('gives a node the rules of all parts that select it, and the AZs of the one that has them', () => {
    const policy = parsePolicy(
      {
        parts: [
          part({}, { rules: [rule(1)] }),
          part({ role: 'gateway' }, { azs: [az('az-a')], rules: [rule(2)] }),
          part({ role: 'proxy' }, { rules: [rule(2)] }),
        ],
      },
      'test',
    );
    const ids = (role: string) =>
      policyFor(policy, { role })
        .get('eth0')
        ?.rules?.map(({ id }) => id);
    assert.deepEqual([ids('gateway'), ids('proxy'), ids('other')], [[1, 2], [1, 2], [1]]);
    assert.equal(policyFor(policy, { role: 'proxy' }).get('eth0')?.azs, undefined);
  });

  const bad: [string, unknown, RegExp][] = [
    [
      'one rule id in two parts that a node can meet',
      { parts: [part({}, { rules: [rule(1)] }), part({ a: 'b' }, { rules: [rule(1)] })] },
      /rule 1 is in part 0 \(all nodes\)/,
    ],
    [
      'AZs in two such parts',
      { parts: [part({ a: 'b' }, { azs: [] }), part({ c: 'd' }, { azs: [] })] },
      /AZs are in part 0 \(a=b\)/,
    ],
    [
      'a rule that is not valid',
      { parts: [part({}, { rules: [{ id: 0 }] })] },
      /parts\[0\]\.devices\.eth0\.rules\[0\]/,
    ],
    ['an unknown field', { parts: [{ devices: {}, nodes: [] }] }, /unknown field "nodes"/],
    ['no part', { parts: [] }, /at least one part/],
    ['something else', [], /an object with the fields parts/],
    ['a device that cannot be', { parts: [{ devices: { 'a b': {} } }] }, /is not a device name/],
  ];
  for (const [what, input, message] of bad) {
    it(`is refused with ${what}`, () => {
      const error = thrownBy(() => parsePolicy(input, 'test'));
      assert.equal(error.code, 'invalid_config');
      assert.match(error.message, message);
    });
  }
});

describe('the content of a policy', () => {
  it('comes out of its chunks as it went in, and not with one missing, changed or from elsewhere', () => {
    const text = JSON.stringify(randomBytes(2 * CHUNK_BYTES).toString('base64'));
    const { sha256, chunks } = packContent(text);
    assert.ok(chunks.length >= 3 && chunks.every(({ length }) => length <= CHUNK_BYTES));
    assert.equal(unpackContent({ sha256, chunks: chunks.length }, chunks, 'k'), text);
    const refused = (given: Uint8Array[]) =>
      thrownBy(() => unpackContent({ sha256, chunks: chunks.length }, given, 'k')).code;
    assert.equal(refused(chunks.slice(1)), 'fleet_content');
    assert.equal(refused([...chunks.slice(1), chunks[0]!]), 'fleet_content');
    const [other] = packContent('{}').chunks;
    assert.equal(thrownBy(() => unpackContent({ sha256, chunks: 1 }, [other!], 'k')).code, 'fleet_content');
  });

  it('must not be larger than can be meant', () => {
    const bomb = packContent('x'.repeat(65 * 1024 * 1024));
    assert.ok(bomb.chunks.length === 1);
    const error = thrownBy(() => unpackContent({ sha256: bomb.sha256, chunks: 1 }, bomb.chunks, 'k'));
    assert.match(error.message, /cannot be unpacked/);
  });
});

describe('keys', () => {
  const keys = new FleetKeys('/vnic/');

  it('are read as they are written', () => {
    assert.deepEqual(keys.parseState(keys.spec), { kind: 'spec' });
    assert.deepEqual(keys.parseState(keys.candidate), { kind: 'candidate' });
    assert.deepEqual(keys.parseState(keys.az('az-a')), { kind: 'az', az: 'az-a' });
    assert.deepEqual(keys.parseState(keys.evidence('az-a', 'n.1')), { kind: 'evidence', az: 'az-a', node: 'n.1' });
  });

  it('of others are nobody’s', () => {
    for (const key of [
      '/vnic/state/',
      '/vnic/state/spec/x',
      '/vnic/state/azs/',
      '/vnic/state/azs/a b',
      '/vnic/state/x',
      '/other/state/spec',
    ]) {
      assert.equal(keys.parseState(key), null, key);
    }
  });
});

const declaration = (name: string, by: 'operator' | 'quorum', witnesses: string[] = []): DeclarationValue => ({
  version: 1,
  az: name,
  by,
  who: 'x',
  reason: '',
  since: '',
  force: false,
  witnesses,
  needed: 2,
});

describe('what a node has to do', () => {
  const states = fc.constantFrom<[state: 'up' | 'failed', cause: string | null]>(
    ['up', null],
    ['failed', 'fleet'],
    ['failed', 'manual'],
    ['failed', 'probe'],
  );
  const observed = fc
    .array(states, { minLength: 1, maxLength: 4 })
    .map((list): ObservedDevice[] => [
      { name: 'eth0', tag: 't', azs: list.map(([state, cause], index) => ({ name: `az-${index}`, state, cause })) },
    ]);
  const declared = fc.dictionary(
    fc.constantFrom('az-0', 'az-1', 'az-2', 'az-9'),
    fc.constantFrom('operator' as const, 'quorum' as const),
  );

  it('about AZs is over once it is done, and touches none that nobody declared and the fleet did not fail', () => {
    fc.assert(
      fc.property(observed, declared, fc.subarray(['az-0', 'az-1']), (devices, by, alive) => {
        const declarations = new Map(Object.entries(by).map(([name, who]) => [name, declaration(name, who)]));
        const seenAlive = new Set(alive);
        const actions = planAzs({ observed: devices, declarations, seenAlive });
        const after = devices.map((device) => ({
          ...device,
          azs: device.azs.map((one) => {
            const action = actions.find((candidate) => candidate.az === one.name);
            if (action === undefined) return one;
            return action.kind === 'fail'
              ? { ...one, state: 'failed' as const, cause: 'fleet' }
              : { ...one, state: 'up' as const, cause: null };
          }),
        }));
        assert.deepEqual(planAzs({ observed: after, declarations, seenAlive }), []);
        for (const { az: name, kind } of actions) {
          const before = devices[0]!.azs.find((one) => one.name === name)!;
          if (kind === 'recover') assert.ok(before.cause === 'fleet' && !declarations.has(name));
          else assert.ok(declarations.has(name));
        }
        for (const one of after[0]!.azs) {
          if (declarations.get(one.name)?.by === 'operator') assert.equal(one.cause, 'fleet');
        }
      }),
    );
  });

  it('about the policy is all of it or nothing, and over once it is done', () => {
    const names = ['eth0', 'eth1', 'eth2'];
    fc.assert(
      fc.property(
        fc.subarray(names),
        fc.subarray(names),
        fc.subarray(names),
        fc.boolean(),
        (asked, present, done, mendDrift) => {
          const desired = new Map(asked.map((name) => [name, { policy: {}, hash: 'new' }]));
          const devices = present.map((name) => ({ name, tag: '2', azs: [] }));
          const applied = new Map(done.map((name, index) => [name, { hash: 'new', tag: index === 0 ? '1' : '2' }]));
          const plan = planPolicy({ desired, applied, observed: devices, mendDrift });
          assert.deepEqual(
            plan.missing,
            asked.filter((name) => !present.includes(name)),
          );
          if (plan.missing.length > 0) assert.deepEqual(plan.replace, []);
          else {
            const after = new Map([
              ...applied,
              ...plan.replace.map(({ device }) => [device, { hash: 'new', tag: '2' }] as const),
            ]);
            const next = planPolicy({ desired, applied: after, observed: devices, mendDrift });
            assert.deepEqual(next.replace, []);
            if (mendDrift) assert.deepEqual(next.drift, []);
          }
        },
      ),
    );
  });
});

describe('a quorum', () => {
  const evidence = (node: string): EvidenceValue => ({
    version: 1,
    az: 'az-a',
    node,
    cause: 'bfd',
    evidence: '',
    since: '',
  });

  it('is never one node, and more than half by default', () => {
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5, 20].map((nodes) => witnessesNeeded('majority', nodes)),
      [2, 2, 2, 2, 3, 3, 11],
    );
    assert.deepEqual([witnessesNeeded(5, 3), witnessesNeeded('off', 9)], [5, null]);
  });

  it('counts each node once', () => {
    const count = (nodes: string[]) =>
      declareByQuorum({ az: 'az-a', evidence: nodes.map(evidence), needed: 2, node: 'n1', now: 'now' })?.witnesses ??
      null;
    assert.equal(count(['n1', 'n1', 'n1']), null);
    assert.deepEqual(count(['n2', 'n1', 'n2']), ['n1', 'n2']);
  });

  it('is over when too few are left of it', () => {
    const three = declaration('az-a', 'quorum', ['a', 'b', 'c']);
    const two = withoutWitness(three, 'b');
    assert.deepEqual(two?.witnesses, ['a', 'c']);
    assert.equal(withoutWitness(two!, 'a'), null);
    assert.deepEqual(withoutWitness(three, 'nobody')?.witnesses, ['a', 'b', 'c']);
  });
});

describe('a trial', () => {
  it('is on so many nodes as are asked for, spread over them, each once', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 100 }), (nodes, percent) => {
        const names = Array.from({ length: nodes }, (_, index) => `n${String(index).padStart(2, '0')}`);
        const count = canaryCount(`${percent}%`, nodes);
        const chosen = chooseCanaries(names, count);
        assert.equal(new Set(chosen).size, count);
        assert.ok(count >= 1 && count <= nodes && count - 1 < (nodes * percent) / 100);
      }),
    );
    assert.equal(canaryCount('3', 20), 3);
    for (const text of ['0', '0%', '101%', '-1', 'x', '1.5'])
      assert.equal(thrownBy(() => canaryCount(text, 9)).code, 'usage');
  });

  const status = (node: string, more: Partial<NodeStatus>): NodeStatus => ({
    version: 1,
    node,
    instance: 'i',
    vnicctl: '1',
    labels: {},
    specRevision: 2,
    appliedRevision: 2,
    canary: true,
    drift: [],
    problems: [],
    azs: [],
    traffic: null,
    ...more,
  });
  const trial = { revision: 2, nodes: ['a', 'b'], maxDropRise: 0.01 };
  const traffic = (before: [number, number], since: [number, number]): NonNullable<NodeStatus['traffic']> => ({
    before: { seconds: 10, packets: before[0], dropped: before[1] },
    since: { seconds: 10, packets: since[0], dropped: since[1] },
  });

  it('goes on while all is well', () => {
    const well = [status('a', { traffic: traffic([10_000, 500], [10_000, 590]) }), status('b', { appliedRevision: 1 })];
    assert.deepEqual(judge(trial, well), { applied: ['a'], against: [] });
  });

  it('is stopped by a problem, by a node that is gone, and by packets dropped', () => {
    const problem = { code: 'too_many_shapes' as const, message: 'no', remedy: null, key: null };
    const against = (...statuses: NodeStatus[]) => judge(trial, statuses).against.join();
    assert.match(against(status('a', { problems: [problem] }), status('b', {})), /^a: too_many_shapes/);
    assert.match(against(status('a', {})), /^b does not report/);
    assert.match(
      against(status('a', {}), status('b', { traffic: traffic([10_000, 0], [10_000, 150]) })),
      /b drops 1.50 % more/,
    );
  });

  it('does not judge by a handful of packets, or by what was dropped before', () => {
    assert.equal(dropRise(traffic([1000, 0], [50, 50])), 0);
    assert.ok(dropRise(traffic([1000, 500], [1000, 500])) === 0);
  });
});

describe('the state of the store', () => {
  it('is read with whatever stands in it, and what cannot be read is named', () => {
    const keys = new FleetKeys('/vnic');
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.oneof(
            fc.constantFrom('spec', 'candidate', 'azs/a', 'azs/', 'evidence/a/n', 'evidence/a', 'x'),
            fc.string(),
          ),
          fc.oneof(
            fc.uint8Array(),
            fc.json().map((text) => new TextEncoder().encode(text)),
            fc.constant(encodeValue(declaration('a', 'operator'))),
          ),
        ),
        (found) => {
          const values = new Map(Object.entries(found).map(([key, value]) => [keys.state + key, value]));
          const state = readState(keys, values, emptyState);
          const read =
            Number(state.spec !== null) +
            Number(state.candidate !== null) +
            state.declarations.size +
            state.evidence.length;
          assert.equal(read + state.problems.length, values.size);
        },
      ),
    );
  });
});
