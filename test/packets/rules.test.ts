// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { VnicEventType, VnicLimits } from '../../src/maps/generated/abi.ts';
import type { Flow, Rule } from '../../src/steering/rules/model.ts';
import { makePrefix, parseAddress } from '../../src/steering/rules/prefix.ts';
import { matchRules } from '../../src/steering/rules/reference.ts';
import { TestDataplane, XDP } from '../support/dataplane.ts';
import { asParsed, flowFrame } from '../support/flow-frames.ts';
import { randomSource } from '../support/random.ts';
import { resultText } from '../support/reference-parser.ts';
import { countShapes, flowsNear, ruleSets } from '../support/rules.ts';
import { thrownBy } from '../support/thrown.ts';
import { flowNear, rankedMatcher, wideRules } from '../support/wide-rules.ts';

const fits = (rules: readonly Rule[]): boolean =>
  countShapes(rules, 'ingress') <= VnicLimits.maxShapes && countShapes(rules, 'egress') <= VnicLimits.maxShapes;

function sampleRules(maxRules: number, seed: number): Rule[] {
  const [rules] = fc.sample(ruleSets(maxRules).filter(fits), { numRuns: 1, seed });
  return rules!;
}

/** Runs the flows; returns how many met a rule. */
function compare(dataplane: TestDataplane, flows: readonly Flow[], match: (flow: Flow) => Rule | undefined): number {
  let matched = 0;
  for (const near of flows) {
    const flow = asParsed(near);
    const rule = match(flow);
    const answer = dataplane.explain(flowFrame(flow), flow.direction);
    const text = `${flow.direction} ${resultText(flow)}`;
    assert.equal(answer.ruleId, rule?.id ?? 0, text);
    assert.equal(answer.dropped, rule?.action === 'drop' ? 1 : 0, text);
    if (rule !== undefined) matched++;
    if (flow.direction !== 'ingress') continue;
    // The flow keeps its verdict, so the second packet takes the other way through the program.
    const expected = rule?.action === 'drop' ? XDP.drop : XDP.pass;
    assert.equal(dataplane.ingress(flowFrame(flow)), expected, text);
    assert.equal(dataplane.ingress(flowFrame(flow)), expected, text);
  }
  return matched;
}

describe('rules in the program', () => {
  const dataplane = new TestDataplane({ maxFlows: 262_144, maxRules: 100_000 });
  const small = new TestDataplane({ maxFlows: 4096, maxRules: 200 });
  after(() => {
    dataplane.close();
    small.close();
  });

  it('many small sets give each packet the rule that the definition gives it', () => {
    let seed = 1;
    let matched = 0;
    for (const maxRules of [...Array<number>(20).fill(1), ...Array<number>(30).fill(100)]) {
      const rules = sampleRules(maxRules, seed++);
      small.clear();
      small.setRules(rules);
      const flows = fc.sample(flowsNear(rules), { numRuns: 150, seed });
      matched += compare(small, flows, (flow) => matchRules(rules, flow));
    }
    assert.ok(matched > 2000, `only ${matched} flows met a rule`);
  });

  for (const count of [1, 100, 10_000, 100_000]) {
    it(`a set of ${count} over many addresses gives each packet the right rule`, function () {
      this.timeout(120_000);
      const random = randomSource(count + 77);
      const rules = wideRules(random, count);
      dataplane.clear();
      dataplane.setRules(rules);
      const flows = Array.from({ length: count > 10_000 ? 2000 : 4000 }, () => flowNear(random, rules));
      const match = rankedMatcher(rules);
      for (const flow of flows.slice(0, count > 1000 ? 20 : 400))
        assert.equal(match(flow)?.id, matchRules(rules, flow)?.id);
      const matched = compare(dataplane, flows, match);
      assert.ok(matched > 600, `only ${matched} flows met a rule`);
    });
  }
});

describe('changing the rules', () => {
  const frame = flowFrame({
    src: parseAddress('10.0.0.1'),
    dst: parseAddress('10.0.0.2'),
    sport: 1000,
    dport: 53,
    proto: 17,
  });
  const rule = (id: number, fields: Partial<Rule> = {}): Rule => ({
    id,
    priority: 0,
    direction: 'ingress',
    match: { src: makePrefix(parseAddress('10.0.0.0'), 104) },
    action: 'pass',
    shadow: false,
    ...fields,
  });
  let dataplane: TestDataplane;
  before(() => {
    dataplane = new TestDataplane({ maxFlows: 1024, maxRules: 4 });
  });
  after(() => dataplane.close());

  beforeEach(() => {
    dataplane.setRules([]);
    dataplane.clear();
  });

  const flow = () => [...dataplane.flows().values()][0]!;

  it('reclassifies flows that are known already with their next packet', () => {
    dataplane.setRules([rule(1)]);
    assert.equal(dataplane.ingress(frame), XDP.pass);
    assert.equal(dataplane.ruleId(flow().verdict.slot), 1);
    const { generation } = dataplane.setRules([rule(2, { action: 'drop' })]);
    assert.notEqual(flow().verdict.generation, generation, 'nothing reached the flow yet');
    assert.equal(dataplane.ingress(frame), XDP.drop);
    assert.equal(dataplane.ruleId(flow().verdict.slot), 2);
    assert.equal(flow().verdict.generation, generation);
    assert.equal(dataplane.counters().reclassified, 1n);
    assert.equal(dataplane.ingress(frame), XDP.drop);
    assert.equal(dataplane.counters().reclassified, 1n, 'once for each flow and change');
    assert.equal(flow().flow.packets, 3n);
    assert.equal(flow().flow.droppedPackets, 2n);
    dataplane.setRules([]);
    assert.equal(dataplane.ingress(frame), XDP.pass);
    assert.equal(flow().verdict.slot, null);
  });

  it('says once which generation packets have met, and not because somebody asks', () => {
    const seen = () => dataplane.events(VnicEventType.rulesLive);
    seen();
    const first = dataplane.setRules([rule(1)]).generation;
    assert.equal(dataplane.explain(frame).generation, first);
    assert.deepEqual(seen(), [], 'an explanation is not traffic');
    dataplane.ingress(frame);
    dataplane.ingress(frame);
    assert.deepEqual(seen(), [first]);
    const second = dataplane.setRules([rule(1)]).generation;
    dataplane.ingress(frame);
    assert.deepEqual(seen(), [second]);
  });

  it('keeps counters and limiter of a rule that stays, and gives a new rule fresh ones', () => {
    const { slots } = dataplane.setRules([rule(1), rule(2, { priority: 1 })]);
    for (let count = 0; count < 5; count++) dataplane.ingress(frame);
    const before = dataplane.dataplane.ruleCounters(slots.get(2)!);
    assert.equal(before.packets, 5n);
    assert.equal(before.bytes, BigInt(5 * frame.length));
    const next = dataplane.setRules([rule(2, { priority: 1, action: 'drop' }), rule(3)]);
    assert.equal(next.slots.get(2), slots.get(2));
    assert.deepEqual(dataplane.dataplane.ruleCounters(slots.get(2)!), before);
    dataplane.ingress(frame);
    const after = dataplane.dataplane.ruleCounters(slots.get(2)!);
    assert.deepEqual([after.packets, after.droppedPackets], [6n, 1n]);
    assert.equal(dataplane.dataplane.ruleCounters(next.slots.get(3)!).packets, 0n);
  });

  it('gives nothing of a removed rule to the rule that takes its slot', () => {
    const old = dataplane.setRules([1, 2, 3, 4].map((id) => rule(id, { priority: id })));
    for (let count = 0; count < 5; count++) dataplane.ingress(frame);
    assert.equal(dataplane.dataplane.ruleCounters(old.slots.get(4)!).packets, 5n);
    // All slots are taken, so the new rule gets the one that rule 4 leaves.
    const next = dataplane.setRules([1, 2, 3, 9].map((id) => rule(id, { priority: id })));
    assert.equal(next.slots.get(9), old.slots.get(4));
    assert.equal(dataplane.dataplane.ruleCounters(next.slots.get(9)!).packets, 0n);
    dataplane.ingress(frame);
    assert.equal(dataplane.dataplane.ruleCounters(next.slots.get(9)!).packets, 1n);
  });

  it('refuses a set that needs more shapes than there are, names the rules, and changes nothing', () => {
    dataplane.setRules([rule(1, { action: 'drop' })]);
    const generation = dataplane.rules.generation();
    const before = dataplane.hashMaps();
    const ports = Array.from(
      { length: 4 },
      (_, index): Rule =>
        rule(10 + index, {
          match: {
            src: makePrefix(parseAddress('10.0.0.0'), 104 + index),
            proto: 17,
            srcPort: { first: 1, last: 65534 },
            dstPort: { first: 1, last: 65534 },
          },
        }),
    );
    const error = thrownBy(() => dataplane.setRules(ports));
    assert.equal(error.code, 'too_many_shapes');
    assert.match(error.message, /128/);
    assert.equal(dataplane.rules.generation(), generation);
    assert.deepEqual(dataplane.hashMaps(), before);
    assert.equal(dataplane.ingress(frame), XDP.drop);
  });

  it('refuses more rules than it was made for, and changes nothing', () => {
    dataplane.setRules([rule(1, { action: 'drop' })]);
    const before = dataplane.hashMaps();
    const error = thrownBy(() => dataplane.setRules([1, 2, 3, 4, 5].map((id) => rule(id))));
    assert.equal(error.code, 'capacity_exceeded');
    assert.deepEqual(dataplane.hashMaps(), before);
    assert.equal(dataplane.ingress(frame), XDP.drop);
  });
});
