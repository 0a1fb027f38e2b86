// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  changePolicy,
  failAz,
  initialState,
  recoverAz,
  type StateChange,
  type SteeringState,
  updateTopology,
} from '../../src/steering/plan-az.ts';
import { planHome } from '../../src/steering/planner.ts';
import type { Topology } from '../../src/steering/queues.ts';
import { countBuckets, noQueue } from '../../src/steering/table.ts';
import { equalWeightTopologies, evenTopology, makeTopology, weightedTopologies } from '../support/topologies.ts';

function start(topology: Topology): SteeringState {
  return initialState(topology, [], { policy: 'absorb' });
}

/** AZs with queues: those that can be failed. */
function azsOf({ azs }: Topology): number[] {
  return azs.filter((az) => az.queues.length > 0).map((az) => az.index);
}

/** Fails or recovers, in turn, the AZ that the number chooses. */
function toggle(state: SteeringState, choice: number): StateChange & { az: number; failed: boolean } {
  const azs = azsOf(state);
  const az = azs[choice % azs.length]!;
  const failed = !state.failedAzs.includes(az);
  return { ...(failed ? failAz(state, az) : recoverAz(state, az)), az, failed };
}

const anyTopology = fc
  .oneof(equalWeightTopologies, weightedTopologies)
  .filter((topology) => azsOf(topology).length > 0);
const choices = fc.array(fc.nat({ max: 7 }), { minLength: 1, maxLength: 12 });

/** Plays the choices and shows each step to the check. */
function play(
  topology: Topology,
  steps: readonly number[],
  check: (before: SteeringState, step: ReturnType<typeof toggle>) => void,
): SteeringState {
  let state = start(topology);
  for (const choice of steps) {
    const step = toggle(state, choice);
    check(state, step);
    state = step.state;
  }
  return state;
}

const runs = { numRuns: 60 };

describe('policy absorb', function () {
  this.timeout(60_000);

  it('lends the queues of a failed AZ: of each other AZ they take what they have of row 0, and recovery takes it back', () => {
    const home = start(evenTopology(32, 4));
    const { state, plan } = failAz(home, 2);
    for (const row of [1, 3, 4]) {
      const counts = countBuckets(state.current.rows[row]!);
      for (let queue = 0; queue < 32; queue++) {
        const isOwn = Math.floor(queue / 8) + 1 === row;
        const isLent = Math.floor(queue / 8) === 1;
        assert.equal(counts[queue], isOwn ? 384 : isLent ? 128 : 0);
      }
    }
    // Every queue carries the same: 384 of its own AZ's row, or 128 from each of three.
    for (const row of [0, 2, 5, 6, 7, 8]) assert.equal(state.current.rows[row], home.current.rows[row]);
    assert.equal(state.current.usableQueues, home.current.usableQueues);
    const { moved, forced, planned, collateral } = plan.summary;
    assert.deepEqual({ moved, forced, planned, collateral }, { moved: 3072, forced: 0, planned: 3072, collateral: 0 });
    assert.equal(plan.summary.maxOverMean, 1);
    assert.deepEqual(recoverAz(state, 2).state, home);
  });

  it("each of a row's own queues lends to each lent queue", () => {
    const home = start(evenTopology(32, 4));
    const { plan } = failAz(home, 4);
    const pairs = Map.groupBy(plan.moves, ({ row, from, to }) => `${row} ${from} ${to}`);
    assert.equal(pairs.size, 3 * 8 * 8);
    for (const moves of pairs.values()) assert.equal(moves.length, 16);
  });

  it('a failure moves buckets only to queues that it lends, or home in its own row; a recovery exactly the same back', () => {
    fc.assert(
      fc.property(anyTopology, choices, (topology, steps) => {
        play(topology, steps, (before, { state, plan, az, failed }) => {
          const isEmpty = (candidate: SteeringState): boolean =>
            azsOf(candidate).every((index) => candidate.failedAzs.includes(index));
          const azOf = (queue: number): number | null => topology.queues[queue]!.az;
          const [without, withAz] = failed ? [before, state] : [state, before];
          for (const { row, bucket, from, to, kind } of plan.moves) {
            const [home, away] = failed ? [from, to] : [to, from];
            assert.equal(kind, 'planned');
            const isLent = row !== az && azOf(away) === az && azOf(home) !== az;
            // What the AZ itself had borrowed, or all that was lent where nobody is left to lend to.
            const isReturn = (row === az || isEmpty(withAz)) && away === before.home.rows[row]![bucket];
            assert.ok(isLent || isReturn, `row ${row}: ${from} -> ${to} with AZ ${az}`);
            assert.ok(!without.failedAzs.includes(row) && row !== 0);
          }
          assert.equal(plan.summary.collateral, 0);
          const back = failed ? recoverAz(state, az) : failAz(state, az);
          assert.deepEqual(back.state.current, before.current);
          assert.equal(back.plan.moves.length, plan.moves.length);
        });
      }),
      runs,
    );
  });

  it('row 0, rows of failed AZs and rows without an AZ stay as at home; nothing is lent when every AZ is failed', () => {
    fc.assert(
      fc.property(anyTopology, choices, (topology, steps) => {
        play(topology, steps, (_, { state }) => {
          const azs = azsOf(topology);
          const all = azs.every((az) => state.failedAzs.includes(az));
          state.current.rows.forEach((row, r) => {
            const borrows = azs.includes(r) && !state.failedAzs.includes(r) && !all;
            if (!borrows) assert.deepEqual(row, state.home.rows[r]);
          });
        });
      }),
      runs,
    );
  });

  it('any order of failures and recoveries gives the same table, and ends at home byte for byte', () => {
    fc.assert(
      fc.property(anyTopology, choices, fc.nat(), (topology, steps, turn) => {
        const state = play(topology, steps, () => undefined);
        const failed = state.failedAzs.map((_, i) => state.failedAzs[(i + turn) % state.failedAzs.length]!);
        const direct = failed.reduce((next, az) => failAz(next, az).state, start(topology));
        assert.deepEqual(direct.current, state.current);
        assert.deepEqual(initialState(topology, state.failedAzs, { policy: 'absorb' }), state);
        const end = failed.reduce((next, az) => recoverAz(next, az).state, state);
        assert.deepEqual(end.current, planHome(topology.queues, topology.azs));
      }),
      runs,
    );
  });

  const shareCheck =
    (ownSlack: (failedCount: number) => number) =>
    (topology: Topology, steps: readonly number[]): void => {
      play(topology, steps, (_, { state, plan }) => {
        for (const { row, queues } of plan.summary.rows) {
          const lending = azsOf(topology).includes(row) && !state.failedAzs.includes(row) && state.failedAzs.length > 0;
          if (!lending) continue;
          for (const { queue, after, share } of queues) {
            const slack = topology.queues[queue]!.az === row ? ownSlack(state.failedAzs.length) : 1;
            assert.ok(Math.abs(after - share) < slack + 1e-6, `row ${row} queue ${queue}: ${after} of ${share}`);
          }
        }
      });
    };

  it('with equal weights a lent queue is within one bucket of its share, an own one within one for each failed AZ', () => {
    const topologies = equalWeightTopologies.filter((topology) => azsOf(topology).length > 0);
    fc.assert(
      fc.property(
        topologies,
        choices,
        shareCheck((failed) => failed),
      ),
      runs,
    );
  });

  it('with any weights the same, but for the few buckets that an AZ of next to no weight keeps', () => {
    const topologies = weightedTopologies.filter((topology) => azsOf(topology).length > 0);
    fc.assert(
      fc.property(
        topologies,
        choices,
        shareCheck((failed) => Math.max(failed, 8)),
      ),
      runs,
    );
  });

  it('the shares of a row are by weight: what comes back from a failed AZ is spread as its weights were', () => {
    // AZ 1: 2 queues of weight 3, AZ 2: 4 of weight 1, AZ 3: 6 of weight 1. In all 16.
    const state = failAz(start(makeTopology([1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3], [3, 1, 1])), 1).state;
    const counts = [2, 3].map((row) => [...countBuckets(state.current.rows[row]!).subarray(0, 12)]);
    assert.deepEqual(counts, [
      [768, 768, 640, 640, 640, 640, 0, 0, 0, 0, 0, 0],
      [768, 768, 0, 0, 0, 0, 427, 427, 427, 427, 426, 426],
    ]);
  });

  it('is never refused, since no queue is lost', () => {
    let state = start(evenTopology(8, 8));
    for (let az = 1; az <= 8; az++) state = failAz(state, az, { panicShare: 1 }).state;
    assert.deepEqual(state.current, state.home);
    assert.equal(state.current.usableQueues, 0xffn);
    // Only AZ 3 is left to lend to: its row is spread over all.
    const counts = countBuckets(recoverAz(state, 3).state.current.rows[3]!);
    assert.ok(counts.subarray(0, 8).every((count) => count === 512));
  });

  it('a lent queue that falls ill gives back what it had borrowed, and nothing else moves', () => {
    const { queues, azs } = evenTopology(12, 3);
    const failed = failAz(start({ queues, azs }), 2).state;
    const ill = queues.map((queue) => ({ ...queue, usable: queue.index !== 5 }));
    const lost = updateTopology(failed, { queues: ill, azs });
    assert.ok(lost.plan.moves.length > 0 && lost.plan.moves.every(({ from, kind }) => from === 5 && kind === 'forced'));
    for (const row of [1, 3]) {
      const moves = lost.plan.moves.filter((move) => move.row === row);
      assert.ok(moves.length > 0 && moves.every(({ bucket, to }) => to === failed.home.rows[row]![bucket]));
    }
    assert.deepEqual(updateTopology(lost.state, { queues, azs }).state, failed);
  });

  it("an AZ whose own queues are all ill goes on with everybody else's, whoever is failed", () => {
    const { queues, azs } = evenTopology(12, 3);
    const ill = queues.map((queue) => ({ ...queue, usable: queue.az !== 1 }));
    const { state, plan } = failAz(initialState({ queues: ill, azs }, [], { policy: 'absorb' }), 2);
    assert.ok(state.current.rows[1]!.every((queue) => queue >= 4 && queue !== noQueue));
    for (const { after } of plan.summary.rows[1]!.queues.slice(4)) assert.equal(after, 512);
  });

  describe('an AZ whose only queue falls ill shares all others evenly', () => {
    const { queues, azs } = makeTopology([1, 0, 0, 0, 2], [1, 1]);
    const ill = queues.map((queue) => ({ ...queue, usable: queue.index !== 0 }));
    const isEven = ({ state, plan }: StateChange): void => {
      assert.deepEqual([...countBuckets(state.current.rows[1]!).subarray(0, 5)], [0, 1024, 1024, 1024, 1024]);
      assert.equal(plan.summary.collateral, 0);
    };

    it('also when the other AZ is failed and recovered', () => {
      const failed = failAz(updateTopology(start({ queues, azs }), { queues: ill, azs }).state, 2);
      isEven(failed);
      assert.ok(failed.plan.moves.every(({ row }) => row !== 1));
      isEven(recoverAz(failed.state, 2));
    });

    it('also when it had borrowed the queue of the other AZ', () => {
      const failed = failAz(start({ queues, azs }), 2).state;
      const lost = updateTopology(failed, { queues: ill, azs });
      isEven(lost);
      isEven(recoverAz(lost.state, 2));
      assert.deepEqual(updateTopology(lost.state, { queues, azs }).state, failed);
    });
  });

  it('changes to evacuate and back during an outage: forced off the failed queues, then lent again', () => {
    const absorbed = failAz(start(evenTopology(12, 3)), 2).state;
    const evacuated = changePolicy(absorbed, 'evacuate');
    const expected = failAz(initialState(evenTopology(12, 3)), 2).state;
    assert.equal(evacuated.state.current.usableQueues, expected.current.usableQueues);
    const rowsOfOthers = [1, 3].map((row) => evacuated.state.current.rows[row]);
    assert.deepEqual(
      rowsOfOthers,
      [1, 3].map((row) => expected.home.rows[row]),
    );
    assert.ok(evacuated.plan.moves.every(({ kind }) => kind === 'forced'));
    const again = changePolicy(evacuated.state, 'absorb');
    assert.deepEqual(again.state, absorbed);
    assert.equal(again.plan.summary.forced, 0);
  });
});
