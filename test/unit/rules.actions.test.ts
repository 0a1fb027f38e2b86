// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type VnicRuleAction, VnicVerdictFlag } from '../../src/maps/generated/abi.ts';
import { ruleAction } from '../../src/steering/rules/compile.ts';
import { limiterNumbers } from '../../src/steering/rules/limiter.ts';
import type { Limit } from '../../src/steering/rules/model.ts';
import { parseRule } from '../../src/steering/rules/parse.ts';
import { assignSlots } from '../../src/steering/rules/slots.ts';
import { thrownBy } from '../support/thrown.ts';

describe('rule actions', () => {
  it('carry the flags, queues and limiter numbers', () => {
    const rule = parseRule({
      id: 7,
      direction: 'egress',
      action: 'pass',
      limit: { rate: '8mbit', burst: '64kb', scope: 'flow', mode: 'shape' },
      queues: [0, 3, 63],
      shadow: true,
    });
    assert.deepEqual(ruleAction(rule), {
      ruleId: 7,
      flags: VnicVerdictFlag.limitFlow | VnicVerdictFlag.shape | VnicVerdictFlag.queues | VnicVerdictFlag.shadow,
      queues: (1n << 63n) | 9n,
      // 1 MB/s: a byte takes 1 us, 16,000 ticks.
      costPerByte: 16_000n << 16n,
      costPerPacket: 0n,
      tolerance: 65_536n * 16_000n,
    } satisfies VnicRuleAction);
    assert.equal(ruleAction(parseRule({ id: 1, action: 'drop' })).flags, VnicVerdictFlag.drop);
  });

  it('count packets for a rate in packets', () => {
    const { limit } = parseRule({ id: 1, action: 'pass', limit: { rate: '1kpps', burst: '20 pkts' } });
    assert.deepEqual(limiterNumbers(limit!), { costPerByte: 0n, costPerPacket: 16_000_000n, tolerance: 320_000_000n });
  });

  it('hold the configured rate in the dataplane’s own arithmetic, from 1 kbit/s to 400 Gbit/s', () => {
    for (const rate of ['1kbit', '10mbit', '333mbit', '9.7gbit', '400gbit', '1pps', '20kpps', '400mpps']) {
      const { limit } = parseRule({ id: 1, action: 'pass', limit: { rate } });
      assert.ok(Math.abs(achievedShare(limit!) - 1) < 0.001, `${rate}: ${achievedShare(limit!)}`);
    }
  });
});

/** Offers twice the rate in 1000-byte packets to GCRA; what passed, burst aside, as a share of the rate. */
function achievedShare(limit: Limit): number {
  const { costPerByte, costPerPacket, tolerance } = limiterNumbers(limit);
  const cost = costPerPacket + ((1000n * costPerByte) >> 16n);
  const packetsPerSecond =
    'packetsPerSecond' in limit.rate ? limit.rate.packetsPerSecond : limit.rate.bitsPerSecond / 8000;
  const gapTicks = 16e9 / packetsPerSecond / 2;
  const burstPackets = Number(tolerance / cost);
  const offered = 4 * burstPackets + 20_000;
  // Step by many packets at once when the burst is large: the share stays the same and the test short.
  const step = Math.max(1, Math.ceil(offered / 100_000));
  let tat = 0n;
  let passed = 0;
  let now = 0n;
  for (let packet = 0; packet < offered; packet += step) {
    now = BigInt(Math.round(packet * gapTicks));
    const start = tat > now ? tat : now;
    if (start - now + cost * BigInt(step) <= tolerance) {
      tat = start + cost * BigInt(step);
      passed += step;
    }
  }
  return (passed - burstPackets) / (Number(now) / (2 * gapTicks));
}

describe('slots', () => {
  it('stay with their rule id, are unique, and freed ones are taken last', () => {
    const idSets = fc.array(fc.uniqueArray(fc.integer({ min: 1, max: 30 }), { maxLength: 20 }), { maxLength: 8 });
    fc.assert(
      fc.property(idSets, fc.integer({ min: 20, max: 26 }), (steps, capacity) => {
        let slots = new Map<number, number>();
        for (const ids of steps) {
          const next = assignSlots(
            slots,
            ids.map((id) => ({ id })),
            capacity,
          );
          assert.deepEqual(new Set(next.keys()), new Set(ids));
          assert.equal(new Set(next.values()).size, ids.length);
          const freed = new Set([...slots].filter(([id]) => !next.has(id)).map(([, slot]) => slot));
          let reused = 0;
          for (const [id, slot] of next) {
            assert.ok(slot >= 0 && slot < capacity);
            if (slots.has(id)) assert.equal(slot, slots.get(id));
            else if (freed.has(slot)) reused++;
          }
          if (reused > 0) assert.equal(next.size - reused + freed.size, capacity, 'a fresh slot was still there');
          slots = next;
        }
      }),
    );
  });

  it('beyond the capacity are refused, and the value that means "no rule" is never given out', () => {
    const rules = Array.from({ length: 5 }, (_, index) => ({ id: index + 1 }));
    assert.equal(thrownBy(() => assignSlots(new Map(), rules, 4)).code, 'capacity_exceeded');
    const all = Array.from({ length: 2 ** 20 }, (_, index) => ({ id: index + 1 }));
    assert.equal(thrownBy(() => assignSlots(new Map(), all, 2 ** 20)).code, 'capacity_exceeded');
  });

  it('beyond a capacity that shrank are given anew', () => {
    assert.deepEqual([...assignSlots(new Map([[1, 9]]), [{ id: 1 }], 4)], [[1, 0]]);
  });
});
