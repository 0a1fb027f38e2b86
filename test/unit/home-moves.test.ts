// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { applyHomeMoves, formatHomeMoves, homeMoves, parseHomeMoves } from '../../src/steering/home-moves.ts';
import { planHome } from '../../src/steering/planner.ts';
import { bucketCount, rowCount, type SteeringTable } from '../../src/steering/table.ts';
import { randomSource } from '../support/random.ts';
import { evenTopology, makeTopology } from '../support/topologies.ts';

/** The table with the chosen buckets on another queue that their row may use. */
function rebalanced(home: SteeringTable, count: number, seed: number): SteeringTable {
  const random = randomSource(seed);
  const rows = home.rows.map((row) => row.slice());
  for (let i = 0; i < count; i++) {
    const row = random() % rowCount;
    rows[row]![random() % bucketCount] = home.rows[row]![random() % bucketCount]!;
  }
  return { ...home, rows };
}

describe('moves of a rebalance as they are kept', () => {
  it('give the rebalanced home again, through the text that is recorded', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 1 }), (count, seed) => {
        const { queues, azs } = evenTopology(24, 3);
        const computed = planHome(queues, azs);
        const home = rebalanced(computed, count, seed);
        const moves = homeMoves(computed, home);
        const text = formatHomeMoves(moves);
        assert.deepEqual(parseHomeMoves(text), moves);
        assert.deepEqual(applyHomeMoves(computed, parseHomeMoves(text), queues), home);
      }),
      { numRuns: 30 },
    );
  });

  it('are short: buckets and queues by row', () => {
    const moves = [
      { row: 2, bucket: 4095, queue: 63 },
      { row: 0, bucket: 7, queue: 12 },
      { row: 0, bucket: 2, queue: 3 },
    ];
    assert.deepEqual(formatHomeMoves(moves), ['2:3 7:12', '', '4095:63']);
    assert.deepEqual(formatHomeMoves([]), []);
    const all = Array.from({ length: rowCount * bucketCount }, (_, i) => ({
      row: Math.floor(i / bucketCount),
      bucket: i % bucketCount,
      queue: 63,
    }));
    assert.ok(JSON.stringify(formatHomeMoves(all)).length < 300_000);
  });

  it('are dropped one by one where their queue is gone or belongs to another AZ now', () => {
    const before = makeTopology([1, 1, 2, 2, 0], [1, 1]);
    const computed = planHome(before.queues, before.azs);
    const moves = [
      { row: 0, bucket: 0, queue: 4 },
      { row: 1, bucket: 0, queue: 1 },
      { row: 2, bucket: 1, queue: 2 },
      { row: 3, bucket: 1, queue: 4 },
    ];
    assert.deepEqual(homeMoves(computed, applyHomeMoves(computed, moves, before.queues)), moves);
    // Queue 4 is gone, and queue 2 is AZ 1's.
    const after = makeTopology([1, 1, 1, 2], [1, 1]);
    const next = planHome(after.queues, after.azs);
    const kept = applyHomeMoves(next, moves, after.queues);
    assert.deepEqual(homeMoves(next, kept), [{ row: 1, bucket: 0, queue: 1 }]);
    assert.equal(computed.rows[1]![0], 0, 'the computed home is left as it was');
  });

  it('are refused where they are not what was written, with the row', () => {
    const bad: [string[], RegExp][] = [
      [['0 17 3'], /row 0: 0 is none/],
      [['', '4096:1'], /row 1: 4096:1 is none/],
      [['1:64'], /row 0: 1:64 is none/],
      [['5:1 5:2'], /row 0: bucket 5/],
      [['5:1  6:2'], /row 0/],
      [Array.from({ length: 10 }, () => ''), /no such row/],
    ];
    for (const [text, message] of bad) {
      assert.throws(() => parseHomeMoves(text), { code: 'invalid_config', message });
    }
  });
});
