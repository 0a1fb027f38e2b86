// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { explainFrame } from '../../src/app/explain.ts';
import type { FlowNames } from '../../src/app/flows.ts';
import { VnicLimits } from '../../src/maps/generated/abi.ts';
import type { AzConfig } from '../../src/steering/azs.ts';
import type { Limit, Rule } from '../../src/steering/rules/model.ts';
import { makePrefix, parseAddress } from '../../src/steering/rules/prefix.ts';
import { queuesOf } from '../../src/steering/table.ts';
import { TestDataplane, XDP } from '../support/dataplane.ts';
import { asParsed, below, flowFrame, pick, type Random, randomMask, randomTable } from '../support/flow-frames.ts';
import { packet, udpFrame } from '../support/packet.ts';
import { randomSource } from '../support/random.ts';
import { resultText } from '../support/reference-parser.ts';
import { countShapes, flowsNear, ruleSets } from '../support/rules.ts';

const azs: AzConfig[] = [
  { name: 'az-a', queues: [1], weight: 1, prefixes: [makePrefix(parseAddress('10.0.0.0'), 105)] },
  { name: 'az-b', queues: [2], weight: 1, prefixes: [makePrefix(parseAddress('fd00:a::'), 32)] },
];

const rounds = 25;
const packetsPerRound = 200;

/** So slow that next to nothing is earned between a question and the packet that follows it. */
function slowLimit(random: Random): Limit {
  const scope = pick(random, ['rule', 'flow'] as const);
  return below(random, 2) === 0
    ? { rate: { packetsPerSecond: 1 }, burst: { packets: 1 + below(random, 3) }, scope, mode: 'police' }
    : { rate: { bitsPerSecond: 1000 }, burst: { bytes: 1 + below(random, 5000) }, scope, mode: 'police' };
}

/** Rules of every kind: drops, limits, queues, shadow mode. */
function randomRules(random: Random): Rule[] {
  const fits = (rules: readonly Rule[]): boolean => countShapes(rules, 'ingress') <= VnicLimits.maxShapes;
  const [rules] = fc.sample(ruleSets(60).filter(fits), { numRuns: 1, seed: below(random, 2 ** 31) });
  return rules!
    .filter(({ direction }) => direction === 'ingress')
    .map((rule): Rule => {
      const shadow = below(random, 4) === 0;
      if (rule.action === 'drop') return { ...rule, shadow };
      const queues = queuesOf(randomMask(random));
      return {
        ...rule,
        shadow,
        ...(below(random, 2) === 0 ? {} : { limit: slowLimit(random) }),
        ...(queues.length === 0 || below(random, 2) === 0 ? {} : { queues }),
      };
    });
}

describe('explaining a packet', () => {
  const test = new TestDataplane({ maxFlows: 1024, maxRules: 200 });
  after(() => test.close());

  it('says for thousands of packets what then happens to them, limits included', function () {
    this.timeout(60_000);
    const random = randomSource(2024);
    const seen = { known: 0, limited: 0, dropped: 0, ruled: 0, shadow: 0 };
    for (let round = 0; round < rounds; round++) {
      const rules = randomRules(random);
      if (rules.length === 0) continue;
      test.clear();
      test.setRules(rules, azs);
      test.setTable(randomTable(random));
      const flows = fc.sample(flowsNear(rules), { numRuns: 100, seed: round + 1 }).map(asParsed);
      for (let count = 0; count < packetsPerRound; count++) {
        const flow = pick(random, flows);
        const frame = flowFrame(flow, 60 + below(random, 1400));
        const text = `round ${round}, packet ${count}: ${resultText(flow)}`;
        const before = test.flows().get(resultText(flow));
        const answer = test.explain(frame);
        const result = test.ingress(frame);
        const { flow: after, verdict } = test.flows().get(resultText(flow))!;
        assert.equal(answer.returnValue, result, text);
        assert.equal(answer.dropped === 1, result === XDP.drop, text);
        assert.deepEqual(
          [answer.verdict, answer.hash, answer.queue, answer.ruleId, answer.az, answer.frameBytes],
          [after.verdict, after.hash, after.queue, test.ruleId(verdict.slot), verdict.az, frame.length],
          text,
        );
        assert.equal(answer.flowKnown, before === undefined ? 0 : 1, text);
        assert.equal(answer.verdictCached, answer.flowKnown, text);
        const rule = rules.find(({ id }) => id === answer.ruleId);
        if (answer.flowKnown === 1) seen.known++;
        if (answer.limited === 1) seen.limited++;
        if (answer.dropped === 1) seen.dropped++;
        if (rule !== undefined) seen.ruled++;
        if (rule?.shadow === true && answer.limited === 1) seen.shadow++;
      }
    }
    for (const [what, count] of Object.entries(seen)) assert.ok(count > 20, `${what}: only ${count} packets`);
  });

  it('changes no map of the dataplane by a single byte', function () {
    this.timeout(60_000);
    const random = randomSource(7);
    let rules: Rule[];
    do rules = randomRules(random);
    while (rules.length < 20);
    test.clear();
    test.setRules(rules, azs);
    test.setTable(randomTable(random));
    const flows = fc.sample(flowsNear(rules), { numRuns: 500, seed: 5 }).map(asParsed);
    const unmet = test.hashMaps();
    for (const flow of flows) test.explain(flowFrame(flow), pick(random, ['ingress', 'egress'] as const));
    assert.deepEqual(test.hashMaps(), unmet, 'before any packet has met the rules');
    for (const flow of flows.slice(0, 250)) test.ingress(flowFrame(flow));
    const met = test.hashMaps();
    assert.notDeepEqual(met, unmet, 'real packets do leave traces');
    for (let count = 0; count < 3000; count++) {
      const frame = flowFrame(pick(random, flows), 60 + below(random, 1400));
      // Also frames that cannot be parsed.
      if (below(random, 10) === 0) frame[12 + below(random, 30)] = random() & 0xff;
      test.explain(frame, pick(random, ['ingress', 'egress'] as const));
    }
    assert.deepEqual(test.hashMaps(), met);
  });

  it('knows that a cached verdict is of an older rule set', () => {
    const frame = udpFrame('10.0.0.1', '10.0.0.2', 1, 2);
    const drop: Rule = { id: 5, priority: 0, direction: 'ingress', match: {}, action: 'drop', shadow: false };
    test.setRules([]);
    test.clear();
    test.ingress(frame);
    assert.deepEqual([test.explain(frame).flowKnown, test.explain(frame).verdictCached], [1, 1]);
    test.setRules([drop]);
    const { flowKnown, verdictCached, ruleId, dropped } = test.explain(frame);
    assert.deepEqual(
      { flowKnown, verdictCached, ruleId, dropped },
      { flowKnown: 1, verdictCached: 0, ruleId: 5, dropped: 1 },
    );
  });

  it('tells users the names of what it found, and the reason where there is nothing to find', () => {
    const names: FlowNames = {
      azName: (index) => azs[index - 1]?.name ?? null,
      ruleId: (slot) => test.ruleId(slot),
    };
    const limit: Limit = { rate: { packetsPerSecond: 1 }, burst: { packets: 1 }, scope: 'flow', mode: 'police' };
    test.setRules(
      [{ id: 9, priority: 1, direction: 'ingress', match: { proto: 17 }, action: 'pass', limit, shadow: false }],
      azs,
    );
    test.clear();
    const frame = udpFrame('10.0.0.1', '192.0.2.2', 4000, 53);
    const first = explainFrame(test.dataplane, frame, 'ingress', names);
    assert.deepEqual(
      [
        first.parsed,
        first.src,
        first.dst,
        first.srcPort,
        first.dstPort,
        first.proto,
        first.rule,
        first.az,
        first.verdict,
      ],
      [true, '10.0.0.1', '192.0.2.2', 4000, 53, 17, 9, 'az-a', 'pass'],
    );
    test.ingress(frame);
    const second = explainFrame(test.dataplane, frame, 'ingress', names);
    assert.equal(second.verdict, 'limit');
    assert.equal(second.limit?.over, true);
    assert.ok(second.limit.debtNs > 0.5e9 && second.limit.debtNs <= 1e9);
    // The AZ of what leaves is its destination's.
    assert.equal(explainFrame(test.dataplane, frame, 'egress', names).az, null);
    const arp = explainFrame(test.dataplane, packet().ethernet().arp().padTo(60).build(), 'ingress', names);
    assert.deepEqual(
      [arp.parsed, arp.unparsed, arp.rule, arp.queue, arp.verdict],
      [false, 'not_ip', null, null, 'pass'],
    );
  });
});
