// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { failAz, initialState, recoverAz, updateTopology } from '../../src/steering/plan-az.ts';
import { evenTopology, makeTopology } from '../support/topologies.ts';

describe('failing and recovering an AZ', () => {
  it("moves exactly the AZ's buckets to the others, and recovery brings back the table", () => {
    const start = initialState(evenTopology(32, 4));
    const failed = failAz(start, 2);
    assert.deepEqual(failed.state.failedAzs, [2]);
    // Row 0: a quarter of the buckets; row 2: all; the other AZs' rows: none. Rows 5 to 8 are like row 0.
    assert.equal(failed.plan.summary.forced, 1024 + 4096 + 4 * 1024);
    assert.equal(failed.plan.summary.moved, failed.plan.summary.forced);
    assert.equal(failed.plan.summary.collateral, 0);
    const recovered = recoverAz(failed.state, 2);
    assert.deepEqual(recovered.state, start);
    assert.equal(recovered.plan.summary.planned, failed.plan.summary.moved);
  });

  it('recovery of one AZ while another is down brings its buckets home and leaves the rest balanced', () => {
    const any = fc.tuple(fc.integer({ min: 3, max: 8 }), fc.integer({ min: 1, max: 8 }), fc.nat(), fc.nat());
    fc.assert(
      fc.property(any, ([azCount, queuesPerAz, a, b]) => {
        const start = initialState(evenTopology(azCount * queuesPerAz, azCount));
        const first = (a % azCount) + 1;
        const second = ((first + (b % (azCount - 1))) % azCount) + 1;
        const bothDown = failAz(failAz(start, first, { force: true }).state, second, { force: true }).state;
        const { plan } = recoverAz(bothDown, first);
        for (const [row, homes] of start.home.rows.entries()) {
          homes.forEach((queue, bucket) => {
            if (start.queues[queue]!.az === first && plan.table.rows[row]![bucket] !== queue) {
              assert.fail(`row ${row} bucket ${bucket} is not at home`);
            }
          });
        }
        for (const { queues } of plan.summary.rows) {
          for (const { after, share } of queues) assert.ok(Math.abs(after - share) < 1 + 1e-6);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('a queue that is itself lost stays unused when its AZ recovers', () => {
    const { queues, azs } = evenTopology(8, 2);
    const ill = queues.map((queue) => ({ ...queue, usable: queue.index !== 5 }));
    const state = initialState({ queues: ill, azs });
    const recovered = recoverAz(failAz(state, 2).state, 2).state;
    assert.equal(recovered.current.usableQueues, 0b1101_1111n);
    assert.ok(recovered.current.rows.every((row) => !row.includes(5)));
  });

  it('refuses to leave too few queues, says how many, and does it with force', () => {
    let state = initialState(evenTopology(8, 8));
    for (let az = 1; az <= 6; az++) state = failAz(state, az).state;
    assert.throws(() => failAz(state, 7), {
      code: 'policy_refused',
      message: 'failing AZ az-g would leave 1 of 8 queues, less than 25 %',
      remedy: /--force/,
    });
    assert.equal(failAz(state, 7, { panicShare: 0.125 }).state.current.usableQueues, 0x80n);
    const last = failAz(state, 7, { force: true }).state;
    const none = failAz(last, 8, { force: true });
    assert.ok(none.state.current.rows.every((row) => row.every((queue) => queue === 0xffff)));
    const back = recoverAz(none.state, 3);
    assert.ok(back.state.current.rows.every((row) => row.every((queue) => queue === 2)));
    assert.equal(back.plan.summary.forced, 0);
  });

  it('says clearly why an AZ cannot be failed or recovered', () => {
    const topology = makeTopology([1, 1, 2, 2], [1, 1, 1]);
    const state = failAz(initialState(topology), 1).state;
    assert.throws(() => failAz(state, 1), { code: 'conflict', message: 'AZ az-a is already failed' });
    assert.throws(() => failAz(state, 3), { code: 'not_found', message: 'AZ az-c has no queues' });
    assert.throws(() => failAz(state, 4), { code: 'not_found', message: 'there is no AZ with index 4' });
    assert.throws(() => recoverAz(state, 2), { code: 'conflict', message: 'AZ az-b is not failed' });
    assert.throws(() => recoverAz(state, 4), { code: 'not_found' });
  });

  it('a new weight makes a new home table during an outage too', () => {
    const { queues, azs } = evenTopology(9, 3);
    const failed = failAz(initialState({ queues, azs }), 1).state;
    const heavier = azs.map((az) => ({ ...az, weight: az.index === 3 ? 3 : 1 }));
    const { state, plan } = updateTopology(failed, { queues, azs: heavier });
    assert.deepEqual(state.failedAzs, [1]);
    [0, 0, 0, 1, 1, 1, 3, 3, 3].forEach((weight, queue) => {
      const { after } = plan.summary.rows[0]!.queues[queue]!;
      assert.ok(Math.abs(after - (4096 * weight) / 12) < 1, `queue ${queue} has ${after}`);
    });
    assert.deepEqual(recoverAz(state, 1).state, initialState({ queues, azs: heavier }));
  });

  it('a queue that becomes ill and well again changes nothing else', () => {
    const { queues, azs } = evenTopology(9, 3);
    const start = initialState({ queues, azs });
    const ill = queues.map((queue) => ({ ...queue, usable: queue.index !== 4 }));
    const lost = updateTopology(start, { queues: ill, azs });
    assert.ok(lost.plan.moves.length > 0 && lost.plan.moves.every((move) => move.from === 4));
    assert.deepEqual(updateTopology(lost.state, { queues, azs }).state, start);
  });
});
