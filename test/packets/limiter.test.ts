// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { Limit, Rule } from '../../src/steering/rules/model.ts';
import { parseBurst, parseRate } from '../../src/steering/rules/units.ts';
import { TestDataplane, XDP } from '../support/dataplane.ts';
import { below, flowFrame, pick } from '../support/flow-frames.ts';
import { Gcra } from '../support/gcra.ts';
import { addressBytes } from '../support/packet-bytes.ts';
import { randomSource } from '../support/random.ts';

const SECOND_NS = 1_000_000_000n;

function limitOf(rateText: string, burstText: string, scope: 'rule' | 'flow' = 'rule'): Limit {
  const rate = parseRate(rateText);
  return { rate, burst: parseBurst(burstText, rate), scope, mode: 'police' };
}

function limitRule(limit: Limit, fields: Partial<Rule> = {}): Rule {
  return { id: 7, priority: 0, direction: 'ingress', match: {}, action: 'pass', limit, shadow: false, ...fields };
}

const frames = [1, 2, 3].map((host) =>
  flowFrame({ src: addressBytes(`10.0.0.${host}`), dst: addressBytes('10.0.1.1'), sport: 1000, dport: 53, proto: 17 }),
);

const rates: readonly (readonly [rate: string, burst: string])[] = [
  ['1kbit', '3000b'],
  ['1kbit', '1b'],
  ['333kbit', '64kb'],
  ['10mbit', '64kb'],
  ['10mbit', '1500b'],
  ['1gbit', '1mb'],
  ['99999999999bit', '256kb'],
  ['400gbit', '64kb'],
  ['1pps', '1 pkts'],
  ['7pps', '20 pkts'],
  ['20kpps', '1000 pkts'],
  ['333333333pps', '16 pkts'],
  ['400mpps', '1 pkts'],
  ['400mpps', '4000 pkts'],
];

describe('limits on a virtual clock', () => {
  let dataplane: TestDataplane;
  before(() => {
    dataplane = new TestDataplane({ maxFlows: 64, maxRules: 4, replay: true });
  });
  after(() => dataplane.close());

  function start(limit: Limit, fields: Partial<Rule> = {}): void {
    dataplane.setRules([]);
    dataplane.clear();
    dataplane.setRules([limitRule(limit, fields)]);
  }

  const state = () => dataplane.dataplane.ruleCounters(0);
  const passes = (timeNs: bigint, wireBytes: number, frame = frames[0]!): boolean =>
    dataplane.replay(frame, timeNs, wireBytes) === XDP.pass;

  for (const [rate, burst] of rates) {
    for (const scope of ['rule', 'flow'] as const) {
      it(`decides on each packet as exact arithmetic does: ${rate}, burst ${burst}, of the ${scope}`, () => {
        const limit = limitOf(rate, burst, scope);
        start(limit);
        const random = randomSource(rate.length * 7919 + burst.length);
        const models = frames.map(() => new Gcra(limit));
        const packetNs = models[0]!.meanPacketNs(800);
        let timeNs = SECOND_NS;
        const counted = { packets: 0, bytes: 0, droppedPackets: 0, droppedBytes: 0 };
        // Enough to use up the burst of each flow more than once.
        const total = 4000 + Math.floor((8 * frames.length * models[0]!.burstNs) / packetNs);
        for (let count = 0; count < total; count++) {
          // Three phases: far above the rate, about the rate, idle times.
          const gaps = [
            [0, 0, 1, packetNs / 8],
            [0, packetNs / 3, packetNs],
            [0, packetNs * 2, packetNs * below(random, 40)],
          ][Math.floor((count * 6) / total) % 3]!;
          timeNs += BigInt(Math.floor(pick(random, gaps)));
          const wireBytes = pick(random, [60, 60 + below(random, 1455), 1514, 9014]);
          const flow = below(random, frames.length);
          const expected = models[scope === 'rule' ? 0 : flow]!.take(timeNs, wireBytes);
          assert.equal(passes(timeNs, wireBytes, frames[flow]), expected, `packet ${count} at ${timeNs} ns`);
          counted.packets++;
          counted.bytes += wireBytes;
          if (!expected) {
            counted.droppedPackets++;
            counted.droppedBytes += wireBytes;
          }
        }
        assert.ok(
          counted.droppedPackets > 100 && counted.packets - counted.droppedPackets > 100,
          `${counted.droppedPackets} dropped`,
        );
        const { packets, bytes, droppedPackets, droppedBytes } = state();
        assert.deepEqual(
          { packets, bytes, droppedPackets, droppedBytes },
          Object.fromEntries(Object.entries(counted).map(([name, value]) => [name, BigInt(value)])),
        );
        const { drops } = dataplane.counters();
        assert.equal(drops[`limit_${scope}`], BigInt(counted.droppedPackets));
        assert.equal(drops[scope === 'rule' ? 'limit_flow' : 'limit_rule'], 0n);
      });
    }
  }

  for (const rate of ['1kbit', '10mbit', '10gbit', '100gbit']) {
    it(`lets a burst through exactly as asked: 64 KiB at ${rate}`, () => {
      start(limitOf(rate, '64kb'));
      for (let round = 0n; round < 3n; round++) {
        const timeNs = SECOND_NS * (1n + 1000n * round);
        for (let count = 0; count < 64; count++) assert.ok(passes(timeNs, 1024), `packet ${count}`);
        assert.ok(!passes(timeNs, 1024), 'one more than the burst');
        // Rounding may leave a few ticks, never room for the smallest frame.
        assert.ok(!passes(timeNs, 60));
      }
    });
  }

  for (const rate of ['1pps', '20kpps', '300mpps', '400mpps']) {
    it(`lets a burst of 100 packets through exactly as asked at ${rate}`, () => {
      start(limitOf(rate, '100 pkts'));
      for (let count = 0; count < 100; count++) assert.ok(passes(SECOND_NS, 60 + count), `packet ${count}`);
      assert.ok(!passes(SECOND_NS, 60));
    });
  }

  it('a packet larger than the burst passes when nothing is owed, and is charged in full', () => {
    start(limitOf('1mbit', '1000b'));
    assert.ok(passes(SECOND_NS, 9000));
    // 9000 bytes take 72 ms. What leaves half of the burst may come that much earlier.
    assert.ok(!passes(SECOND_NS + 71_900_000n, 1000));
    assert.ok(!passes(SECOND_NS + 71_900_000n, 9000));
    assert.ok(passes(SECOND_NS + 72_000_000n, 9000));
    assert.ok(!passes(SECOND_NS + 139_900_000n, 500));
    assert.ok(passes(SECOND_NS + 140_000_000n, 500));
  });

  it('flows have limits of their own in scope flow, and share one in scope rule', () => {
    for (const [scope, expected] of [
      ['flow', [true, true, true]],
      ['rule', [true, false, false]],
    ] as const) {
      start(limitOf('1kpps', '1 pkts', scope));
      assert.deepEqual(
        frames.map((frame) => passes(SECOND_NS, 60, frame)),
        expected,
        scope,
      );
      assert.ok(!passes(SECOND_NS, 60, frames[0]));
    }
  });

  it('shadow mode drops nothing and counts what the limit would have dropped', () => {
    const limit = limitOf('1mbit', '3000b');
    start(limit, { shadow: true });
    const model = new Gcra(limit);
    let dropped = 0n;
    for (let count = 0n; count < 1000n; count++) {
      const timeNs = SECOND_NS + count * 4_000_000n;
      assert.ok(passes(timeNs, 1000));
      if (!model.take(timeNs, 1000)) dropped++;
    }
    assert.ok(dropped > 400n, `${dropped}`);
    assert.deepEqual([state().droppedPackets, state().droppedBytes], [dropped, dropped * 1000n]);
    assert.deepEqual(dataplane.counters().drops, { rule: 0n, limit_rule: 0n, limit_flow: 0n });
  });

  it('does not drift in 1,000,000 seconds', function () {
    this.timeout(60_000);
    const bitsPerSecond = 1201;
    const seconds = 1_000_000;
    const [packetBytes, burstBytes] = [757, 1514];
    start(limitOf(`${bitsPerSecond}bit`, `${burstBytes}b`));
    let accepted = 0;
    for (let timeNs = SECOND_NS; timeNs < SECOND_NS * BigInt(seconds + 1); timeNs += 2_500_000_000n) {
      if (passes(timeNs, packetBytes)) accepted += packetBytes;
    }
    const asked = (bitsPerSecond / 8) * seconds;
    const error = accepted - asked;
    // What the numbers are rounded to, the burst, and whole packets.
    const bound = asked / 1_000_000 + burstBytes + packetBytes;
    assert.ok(Math.abs(error) <= bound, `${accepted} bytes instead of ${asked}`);
  });

  for (const [rate, wireBytes] of [
    ['1kbit', 100],
    ['333kbit', 700],
    ['10mbit', 1514],
    ['10gbit', 9014],
    ['400gbit', 1514],
  ] as const) {
    it(`under overload ${rate} is ${rate}, to one part in 500`, () => {
      start(limitOf(rate, '64kb'));
      const { bitsPerSecond } = parseRate(rate) as { bitsPerSecond: number };
      const packetNs = (wireBytes * 8 * 1e9) / bitsPerSecond;
      const packets = 20_000;
      let accepted = 0;
      for (let count = 0; count < packets; count++) {
        if (passes(SECOND_NS + BigInt(Math.floor((count * packetNs) / 2)), wireBytes)) accepted++;
      }
      const burstPackets = 65_536 / wireBytes;
      const expected = packets / 2 + burstPackets;
      assert.ok(Math.abs(accepted / expected - 1) < 1 / 500, `${accepted} of ${expected} packets`);
    });
  }

  it('a rule whose rate is raised does not pay at the new rate what it owes at the old', () => {
    for (const scope of ['rule', 'flow'] as const) {
      start(limitOf('1kbit', '1mb', scope));
      while (passes(SECOND_NS, 1514));
      // 1 MiB at 1 kbit/s are 8389 s.
      assert.ok(!passes(SECOND_NS * 1000n, 1514_000));
      dataplane.setRules([limitRule(limitOf('10mbit', '64kb', scope))]);
      assert.ok(passes(SECOND_NS * 1001n, 1514), scope);
      let burst = 1;
      while (passes(SECOND_NS * 1001n, 1514)) burst++;
      assert.equal(burst, Math.floor(65_536 / 1514), 'a whole burst of the new limit, no more');
    }
  });

  it('a change of other rules leaves a limit where it is', () => {
    const rule = limitRule(limitOf('1mbit', '3000b'));
    start(rule.limit!);
    while (passes(SECOND_NS, 1000));
    dataplane.setRules([rule, { ...limitRule(rule.limit!), id: 8, priority: -1, action: 'pass' }]);
    assert.ok(!passes(SECOND_NS + 1n, 1000));
    assert.ok(passes(SECOND_NS + 8_000_000n, 1000));
  });
});
