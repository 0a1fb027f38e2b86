// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { BucketLoads } from '../../src/steering/loads.ts';
import { failAz, initialState, recoverAz, type SteeringState } from '../../src/steering/plan-az.ts';
import type { PlanResult } from '../../src/steering/planner.ts';
import { type PreviewInput, previewPlan } from '../../src/steering/preview.ts';
import { bucketCount, rowCount } from '../../src/steering/table.ts';
import { evenTopology } from '../support/topologies.ts';

/** The same in each bucket of a row. */
function evenLoads(rows: readonly number[], pps: number, flows: number): BucketLoads {
  const fill = <T extends Float64Array | Uint32Array>(make: () => T, value: number): T[] =>
    Array.from({ length: rowCount }, (_, row) => {
      const values = make();
      if (rows.includes(row)) values.fill(value);
      return values;
    });
  return {
    packetsPerSecond: fill(() => new Float64Array(bucketCount), pps),
    bytesPerSecond: fill(() => new Float64Array(bucketCount), 1000 * pps),
    flows: fill(() => new Uint32Array(bucketCount), flows),
    windowMs: 200,
  };
}

function preview(state: SteeringState, plan: PlanResult, also: Partial<PreviewInput> = {}) {
  const nothing = { loads: null, flowsByBucket: null, capacityPps: null, moveDeadlineMs: 2000 };
  return previewPlan({ plan, queues: state.queues, ...nothing, ...also });
}

describe('preview of a plan', () => {
  const start = initialState(evenTopology(8, 4));
  const failed = failAz(start, 2);
  /** Row 0: 1024 buckets; row 2: all; rows 5 to 8: 1024 each. */
  const onFailed = 1024 + 4096 + 4 * 1024;

  it('counts what is on the AZ and what moves, and knows nothing of loads and flows that were not measured', () => {
    const { buckets, flows, queues, breaches, expectedDurationMs } = preview(start, failed.plan, { az: 2 });
    assert.deepEqual(buckets, { onFailed, moved: onFailed, collateral: 0, forced: onFailed, planned: 0 });
    assert.equal(flows, null);
    assert.deepEqual(breaches, []);
    assert.deepEqual(queues[2], {
      queue: 2,
      az: 2,
      bucketsBefore: onFailed / 2,
      bucketsAfter: 0,
      loadBeforePps: null,
      loadAfterPps: null,
    });
    assert.equal(
      queues.reduce((sum, queue) => sum + queue.bucketsAfter, 0),
      rowCount * bucketCount,
    );
    assert.equal(expectedDurationMs.settled, expectedDurationMs.commit);
    assert.ok(expectedDurationMs.commit > 0 && expectedDurationMs.commit < 1);
  });

  it('adds up loads and flows by queue before and after, and tells which queue would get too much', () => {
    const loads = evenLoads([0, 2], 10, 3);
    const { flows, queues, breaches } = preview(start, failed.plan, {
      az: 2,
      loads,
      flowsByBucket: loads.flows,
      capacityPps: 13_500,
    });
    // 2 x 4096 buckets with 3 flows; a quarter of row 0 and all of row 2 move.
    assert.deepEqual(flows, { known: 24_576, moved: 3 * (1024 + 4096) });
    assert.deepEqual([queues[0]!.loadBeforePps, queues[2]!.loadBeforePps], [5120, 5120 + 20_480]);
    assert.equal(queues[2]!.loadAfterPps, 0);
    const total = queues.reduce((sum, queue) => sum + queue.loadAfterPps!, 0);
    assert.equal(total, 81_920);
    const expected = queues.filter((queue) => queue.loadAfterPps! > 13_500);
    assert.ok(expected.length > 0);
    assert.deepEqual(
      breaches,
      expected.map(({ queue, loadAfterPps }) => ({ queue, loadPps: loadAfterPps!, capacityPps: 13_500 })),
    );
    assert.deepEqual(preview(start, failed.plan, { loads, capacityPps: 14_000 }).breaches, []);
  });

  it('counts the buckets of an AZ that absorb leaves in use, although none of its queues is lost', () => {
    const state = initialState(evenTopology(8, 4), [], { policy: 'absorb' });
    const { buckets } = preview(state, failAz(state, 2).plan, { az: 2 });
    assert.deepEqual(buckets, { onFailed, moved: 3072, collateral: 0, forced: 0, planned: 3072 });
  });

  describe('says when planned moves are through', () => {
    const { plan, state } = recoverAz(failed.state, 2);
    const settled = (loads: BucketLoads | null): number | null =>
      preview(state, plan, { loads }).expectedDurationMs.settled;

    it('by the slowest flow: 100 packets/s make a pause in about 10 ms', () => {
      // e^0.1 / 0.1
      assert.ok(Math.abs(settled(evenLoads([2], 300, 3))! - 0.1 - 11.05) < 0.01);
    });

    it('at the deadline where flows hardly pause', () => {
      assert.equal(settled(evenLoads([2], 50_000, 1)), 2000.1);
    });

    it('at once where nothing flows, or only in buckets that stay', () => {
      assert.equal(settled(evenLoads([], 0, 0)), 0.1);
      assert.equal(settled(evenLoads([1, 3], 300, 3)), 0.1);
    });

    it('not at all where no load is known', () => {
      assert.equal(settled(null), null);
    });
  });
});
