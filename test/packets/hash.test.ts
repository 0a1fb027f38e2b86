// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { ReplayFlowKey } from '../../src/captures/replay.ts';
import type { AzConfig } from '../../src/steering/azs.ts';
import { bucketOf, chooseQueue, flowHash } from '../../src/steering/hash.ts';
import type { Rule } from '../../src/steering/rules/model.ts';
import { makePrefix, parseAddress } from '../../src/steering/rules/prefix.ts';
import { queueMask, queuesOf } from '../../src/steering/table.ts';
import { TestDataplane } from '../support/dataplane.ts';
import { flowFrame, isMapped, randomFlow, randomMask, randomTable, reversed } from '../support/flow-frames.ts';
import { randomSource } from '../support/random.ts';
import { resultText } from '../support/reference-parser.ts';

const flowCount = 100_000;

/** Eight AZs that share all addresses: IPv6 by the first two bits, IPv4 by the first two of its own. */
const azs: AzConfig[] = ['::', '4000::', '8000::', 'c000::', '0.0.0.0', '64.0.0.0', '128.0.0.0', '192.0.0.0'].map(
  (text, index) => ({
    name: `az-${index + 1}`,
    queues: [index],
    weight: 1,
    prefixes: [makePrefix(parseAddress(text), index < 4 ? 2 : 98)],
  }),
);

function azOf(remote: Uint8Array): number {
  return isMapped(remote) ? 5 + (remote[12]! >> 6) : 1 + (remote[0]! >> 6);
}

/** TCP, UDP and SCTP have rules that name queues; other protocols have none. */
function queueRules(random: () => number): { rules: Rule[]; maskOf: (flow: ReplayFlowKey) => bigint } {
  const masks = new Map<number, bigint>();
  for (const proto of [6, 17, 132]) {
    const mask = randomMask(random);
    if (mask !== 0n) masks.set(proto, mask);
  }
  const rules = [...masks].flatMap(([proto, mask]) =>
    (['ingress', 'egress'] as const).map((direction, index): Rule => {
      const id = 2 * proto + index;
      return { id, priority: 0, direction, match: { proto }, action: 'pass', queues: queuesOf(mask), shadow: false };
    }),
  );
  return { rules, maskOf: ({ proto }) => masks.get(proto) ?? 0n };
}

describe('bucket and queue of a flow', () => {
  for (const hashSeed of [0, 1, 0xffff_ffff]) {
    it(`${flowCount} random flows have the hash in the program that they have in TypeScript, seed ${hashSeed}`, () => {
      using dataplane = new TestDataplane({ maxFlows: 8, hashSeed });
      const random = randomSource(0x1234_5678 ^ hashSeed);
      for (let count = 0; count < flowCount; count++) {
        const flow = randomFlow(random);
        const answer = dataplane.explain(flowFrame(flow));
        const hash = flowHash(flow, hashSeed);
        if (answer.hash !== hash || answer.bucket !== bucketOf(hash)) {
          assert.fail(`${resultText(flow)}: hash ${answer.hash}, bucket ${answer.bucket}, not ${hash}`);
        }
      }
    });
  }

  it('both directions of a connection, coming and going, meet the same bucket', () => {
    using dataplane = new TestDataplane({ maxFlows: 8 });
    const random = randomSource(99);
    for (let count = 0; count < 20_000; count++) {
      const flow = randomFlow(random);
      const [there, back] = [flowFrame(flow), flowFrame(reversed(flow))];
      const hash = dataplane.explain(there).hash;
      assert.equal(dataplane.explain(back).hash, hash);
      assert.equal(dataplane.explain(back, 'egress').hash, hash);
    }
  });

  it('random tables, lost queues and rules that name queues give the queue that TypeScript gives', () => {
    using dataplane = new TestDataplane({ maxFlows: 8 });
    const random = randomSource(4711);
    const kinds = { named: 0, lost: 0, none: 0 };
    for (let round = 0; round < 7; round++) {
      const table = randomTable(random);
      const { rules, maskOf } = queueRules(random);
      dataplane.setRules(rules, azs);
      const generation = dataplane.setTable(table);
      for (let count = 0; count < 5000; count++) {
        const flow = randomFlow(random);
        const direction = random() & 64 ? 'egress' : 'ingress';
        const az = azOf(direction === 'ingress' ? flow.src : flow.dst);
        const hash = flowHash(flow, dataplane.size.hashSeed);
        const ruleQueues = maskOf(flow);
        const expected = chooseQueue({ ...table, hash, bucket: bucketOf(hash), az, ruleQueues });
        const answer = dataplane.explain(flowFrame(flow), direction);
        assert.deepEqual(
          { az: answer.az, table: answer.table, queue: answer.queue },
          { az, table: generation, queue: expected },
          `round ${round}: ${resultText(flow)}, rule's queues ${ruleQueues}, usable ${table.usableQueues}`,
        );
        if (ruleQueues !== 0n) kinds.named++;
        if (ruleQueues !== 0n && (ruleQueues & table.usableQueues) === 0n) kinds.lost++;
        if (expected === 0xffff) kinds.none++;
      }
    }
    for (const [kind, count] of Object.entries(kinds)) assert.ok(count > 100, `${kind}: only ${count} flows`);
  });

  it('the live path steers each packet to that queue and counts it there', () => {
    using dataplane = new TestDataplane({ maxFlows: 65_536 });
    const random = randomSource(815);
    const table = randomTable(random);
    const { rules, maskOf } = queueRules(random);
    dataplane.setRules(rules, azs);
    dataplane.setTable(table);
    const steered = new Map<number, number>();
    const expected = new Map<string, number>();
    for (let count = 0; count < 5000; count++) {
      const flow = randomFlow(random);
      const hash = flowHash(flow, dataplane.size.hashSeed);
      const choice = { ...table, hash, bucket: bucketOf(hash), az: azOf(flow.src), ruleQueues: maskOf(flow) };
      const queue = chooseQueue(choice);
      expected.set(resultText(flow), queue);
      if (queue !== 0xffff) steered.set(queue, (steered.get(queue) ?? 0) + 1);
      dataplane.ingress(flowFrame(flow));
    }
    const flows = dataplane.flows();
    assert.equal(flows.size, expected.size);
    for (const [name, queue] of expected) assert.equal(flows.get(name)?.flow.queue, queue, name);
    for (const { queue, steeredPackets } of dataplane.queueCounters()) {
      assert.equal(Number(steeredPackets), steered.get(queue) ?? 0, `queue ${queue}`);
    }
  });

  it('without a table nothing is steered, with rules that name queues neither', () => {
    using dataplane = new TestDataplane({ maxFlows: 8 });
    const random = randomSource(5);
    const { rules } = queueRules(random);
    dataplane.setRules(rules, azs);
    for (let count = 0; count < 100; count++) {
      assert.equal(dataplane.explain(flowFrame(randomFlow(random))).queue, 0xffff);
    }
    dataplane.setTable({ rows: randomTable(random).rows, usableQueues: queueMask([0, 1, 2, 3]) });
    dataplane.tables.deactivate();
    for (let count = 0; count < 100; count++) {
      assert.equal(dataplane.explain(flowFrame(randomFlow(random))).queue, 0xffff);
    }
  });
});
