// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { distribution, distributionLine } from '../bench/distribution.ts';

const judged = { name: 'seen', unit: 'ms', method: 'with a clock' };
const isMet = ({ ratio, bound }: { ratio: number; bound: number | null }): boolean => bound !== null && ratio <= bound;

describe('the distribution of a benchmark', () => {
  it('keeps a promise only if the worst value does', () => {
    const met = distribution([21, 24, 25, 22], { ...judged, promise: 25 });
    assert.ok(isMet(met));
    assert.deepEqual([met.min, met.max, met.runs], [21, 25, 4]);
    assert.ok(!isMet(distribution([21, 25.1, 22], { ...judged, promise: 25 })));
  });

  it('judges the 99th percentile or the least value where that is what is promised', () => {
    const values = [...Array<number>(199).fill(1), 900];
    assert.ok(isMet(distribution(values, { ...judged, promise: 100, judged: 'p99' })));
    assert.ok(!isMet(distribution([1, 900], { ...judged, promise: 100, judged: 'p99' })));
    assert.ok(isMet(distribution([1000, 3000], { ...judged, promise: 1000, judged: 'min' })));
    assert.ok(!isMet(distribution([999, 3000], { ...judged, promise: 1000, judged: 'min' })));
  });

  it('lets nothing pass where nothing is allowed', () => {
    assert.ok(isMet(distribution([0, 0], { ...judged, promise: 0 })));
    assert.ok(!isMet(distribution([0, 1, 0], { ...judged, promise: 0 })));
    assert.ok(!isMet(distribution([Number.NaN], { ...judged, promise: 25 })));
  });

  it('takes nothing measured for a failure, not for a promise kept', () => {
    assert.throws(() => distribution([], { ...judged, promise: 0 }), /nothing was measured of: seen/);
  });

  it('says what was promised and whether it was kept', () => {
    assert.match(
      distributionLine(distribution([26.123], { ...judged, promise: 25 }), 2),
      /26\.12.*promised 25: MISSED$/,
    );
    assert.match(distributionLine(distribution([3], { ...judged, promise: null }), 2), /\b3$/);
  });
});
