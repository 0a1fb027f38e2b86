// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { FailoverPolicyName } from '../../src/steering/failover.ts';
import { failAz, initialState, replan, type SteeringState } from '../../src/steering/plan-az.ts';
import { type Standby, standbyTables } from '../../src/steering/standby.ts';
import { noQueue, queuesOf, type SteeringTable } from '../../src/steering/table.ts';
import { equalWeightTopologies, evenTopology, makeTopology, weightedTopologies } from '../support/topologies.ts';

const force = { force: true };

function azsOf({ azs }: Pick<SteeringState, 'azs'>): number[] {
  return azs.filter((az) => az.queues.length > 0).map((az) => az.index);
}

function bits(azs: readonly number[]): number {
  return azs.reduce((sum, az) => sum + 2 ** (az - 1), 0);
}

/** Buckets that differ although their queue before is usable after. */
function collateral(before: SteeringTable, after: SteeringTable): number {
  const usable = new Set(queuesOf(after.usableQueues));
  return before.rows.reduce((sum, row, r) => {
    const next = after.rows[r]!;
    return row.reduce((all, queue, bucket) => all + (queue !== next[bucket] && usable.has(queue) ? 1 : 0), sum);
  }, 0);
}

/** Random topology with AZs, policy, and AZs that are failed already. */
const cases = fc
  .tuple(
    fc.oneof(equalWeightTopologies, weightedTopologies).filter((topology) => azsOf(topology).length > 0),
    fc.constantFrom<FailoverPolicyName>('evacuate', 'absorb'),
    fc.array(fc.nat({ max: 7 }), { maxLength: 3 }),
  )
  .map(([topology, policy, choices]): SteeringState => {
    const azs = azsOf(topology);
    const failed = new Set(choices.map((choice) => azs[choice % azs.length]!));
    return [...failed].reduce((state, az) => failAz(state, az, force).state, initialState(topology, [], { policy }));
  });

function byAzs(standbys: readonly Standby[]): Map<number, Standby> {
  return new Map(standbys.map((standby) => [standby.azs, standby]));
}

describe('standby tables', function () {
  this.timeout(60_000);

  it('are there for each AZ and each pair of AZs that can still be lost, and name all lost AZs', () => {
    const state = failAz(initialState(makeTopology([1, 2, 2, 3, 3, 4], [1, 1, 1, 1, 1])), 2, force).state;
    const { standbys, refused } = standbyTables(state, force, { pairs: true });
    const sets = [[1], [3], [4], [1, 3], [1, 4], [3, 4]].map((azs) => bits([2, ...azs]));
    assert.deepEqual(
      standbys.map(({ azs, settle }) => [azs, settle]),
      sets.map((azs) => [azs, false]),
    );
    assert.deepEqual(refused, []);
    const singles = standbyTables(state, force, { pairs: false });
    assert.deepEqual(singles.standbys, standbys.slice(0, 3));
  });

  it('of one AZ is what failing it gives', () => {
    fc.assert(
      fc.property(cases, (state) => {
        const standbys = byAzs(standbyTables(state, force, { pairs: false }).standbys);
        for (const az of azsOf(state).filter((index) => !state.failedAzs.includes(index))) {
          assert.deepEqual(standbys.get(bits([...state.failedAzs, az]))!.table, failAz(state, az, force).state.current);
        }
      }),
      { numRuns: 60 },
    );
  });

  it('of two AZs moves only what is lost, whichever is lost first or both at once, and is settled by the next plan', () => {
    fc.assert(
      fc.property(cases, (state) => {
        const standbys = byAzs(standbyTables(state, force, { pairs: true }).standbys);
        const left = azsOf(state).filter((index) => !state.failedAzs.includes(index));
        for (const one of left) {
          for (const other of left.filter((az) => az !== one)) {
            const { table, settle } = standbys.get(bits([...state.failedAzs, one, other]))!;
            assert.equal(settle, state.policy === 'absorb');
            const first = failAz(state, one, force).state;
            const second = failAz(first, other, force);
            assert.equal(table.usableQueues, second.state.current.usableQueues);
            if (settle) assert.deepEqual(table, second.state.current);
            else {
              assert.equal(collateral(state.current, table), 0);
              assert.equal(collateral(first.current, table), 0);
              // As many moves as failing them one after the other.
              const moves = first.current.rows.reduce(
                (sum, row, r) => sum + row.reduce((all, queue, b) => all + (queue === table.rows[r]![b] ? 0 : 1), 0),
                0,
              );
              assert.equal(moves, second.plan.moves.length);
            }
            assert.deepEqual(replan({ ...second.state, current: table }).plan.moves, []);
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  it('of two AZs of equal queues keeps every queue within one bucket of its share, with 2 to 8 AZs', () => {
    for (let azCount = 2; azCount <= 8; azCount++) {
      for (let queuesPerAz = 1; queuesPerAz <= 8; queuesPerAz++) {
        const state = initialState(evenTopology(azCount * queuesPerAz, azCount));
        for (const { azs, table } of standbyTables(state, force, { pairs: true }).standbys) {
          const failedAzs = azsOf(state).filter((az) => (azs >> (az - 1)) & 1);
          const { summary } = replan({ ...state, failedAzs, current: table }).plan;
          for (const { queues } of summary.rows) {
            for (const { after, share } of queues) assert.ok(share === 0 || Math.abs(after - share) < 1 + 1e-6);
          }
        }
      }
    }
  });

  it('of two AZs of any sizes keeps every queue less than three buckets above its share', () => {
    fc.assert(
      fc.property(cases, (state) => {
        if (state.policy === 'absorb') return;
        for (const { azs, table } of standbyTables(state, force, { pairs: true }).standbys) {
          const failedAzs = azsOf(state).filter((az) => (azs >> (az - 1)) & 1);
          const { summary } = replan({ ...state, failedAzs, current: table }).plan;
          for (const { queues } of summary.rows) {
            for (const { after, share } of queues) assert.ok(share === 0 || after - share < 3, `${after} of ${share}`);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it('are left out where the panic threshold refuses the loss, which is told', () => {
    const state = initialState(makeTopology([1, 1, 1, 1, 1, 2, 3], [1, 1, 1]));
    const { standbys, refused } = standbyTables(state, { panicShare: 0.3 }, { pairs: true });
    assert.deepEqual(
      standbys.map(({ azs }) => azs),
      [0b010, 0b100, 0b110],
    );
    assert.deepEqual(
      refused.map(({ azs, error }) => [azs, error.code]),
      [
        [0b001, 'policy_refused'],
        [0b011, 'policy_refused'],
        [0b101, 'policy_refused'],
      ],
    );
    const two = standbyTables(state, { panicShare: 0.75 }, { pairs: true });
    assert.deepEqual([two.standbys.length, two.refused.map(({ azs }) => azs)], [2, [0b001, 0b011, 0b101, 0b110]]);
    const absorbing = standbyTables({ ...state, policy: 'absorb' }, { panicShare: 1 }, { pairs: true });
    assert.deepEqual([absorbing.standbys.length, absorbing.refused], [6, []]);
  });

  it('share the rows that do not change with the current table, and are the same each time', () => {
    for (const policy of ['evacuate', 'absorb'] as const) {
      const state = initialState(evenTopology(64, 8), [], { policy });
      const { standbys } = standbyTables(state, force, { pairs: true });
      assert.equal(standbys.length, 36);
      for (const { azs, table } of standbys) {
        table.rows.forEach((row, r) => {
          const isLost = r > 0 && ((azs >> (r - 1)) & 1) === 1;
          const changes = policy === 'evacuate' ? r === 0 || isLost : r > 0 && !isLost;
          assert.equal(row !== state.current.rows[r], changes, `AZs ${azs} row ${r}`);
        });
      }
      assert.deepEqual(standbyTables(state, force, { pairs: true }).standbys, standbys);
    }
  });

  it('with every AZ lost have no queue left, or with absorb are the home table', () => {
    const topology = evenTopology(4, 2);
    const all = (policy: FailoverPolicyName): SteeringTable =>
      standbyTables(initialState(topology, [], { policy }), force, { pairs: true }).standbys.at(-1)!.table;
    assert.ok(all('evacuate').rows.every((row) => row.every((queue) => queue === noQueue)));
    assert.deepEqual(all('absorb'), initialState(topology).home);
  });
});
