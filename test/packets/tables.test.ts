// SPDX-License-Identifier: Apache-2.0
/** Steering tables and their standbys in the maps of a loaded dataplane. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { writeTables } from '../../src/app/az-steering.ts';
import { SteeringMoved } from '../../src/app/table-store.ts';
import { failoverDefaults } from '../../src/steering/failover.ts';
import { failAz, initialState, recoverAz, type SteeringState } from '../../src/steering/plan-az.ts';
import type { Topology } from '../../src/steering/queues.ts';
import { standbyTables } from '../../src/steering/standby.ts';
import { TestDataplane } from '../support/dataplane.ts';

function topology(azCount: number): Topology {
  const azOf = (queue: number): number => (queue % azCount) + 1;
  const queues = Array.from({ length: 32 }, (_, index) => ({
    index,
    az: azOf(index),
    cpu: 0,
    numaNode: -1,
    usable: true,
  }));
  const azs = Array.from({ length: azCount }, (_, n) => ({
    index: n + 1,
    name: `az-${n + 1}`,
    weight: 1,
    queues: queues.filter(({ az }) => az === n + 1).map(({ index }) => index),
  }));
  return { queues, azs };
}

const setOf = ({ failedAzs }: SteeringState): number => failedAzs.reduce((set, az) => set | (1 << (az - 1)), 0);

describe('steering tables', function () {
  this.timeout(60_000);
  let test: TestDataplane;
  beforeEach(() => {
    test = new TestDataplane({ maxFlows: 64 });
  });
  afterEach(() => test.close());

  function commit(state: SteeringState): void {
    const generation = writeTables(test.tables, state, failoverDefaults);
    test.tables.activate(generation, { lostAzs: setOf(state) });
  }

  /** The active table and each standby are what they are meant to be. */
  function assertWhole(state: SteeringState): void {
    const { tables } = test;
    assert.equal(tables.word().lostAzs, setOf(state));
    assert.deepEqual(tables.read(tables.active()!), state.current);
    const { standbys } = standbyTables(state, { panicShare: failoverDefaults.panicShare }, { pairs: true });
    assert.deepEqual(
      tables.standbySets(),
      standbys.map(({ azs }) => azs).sort((a, b) => a - b),
    );
    for (const { azs, table } of standbys)
      assert.deepEqual(tables.read(tables.standbyFor(azs)!), table, `losing ${azs}`);
  }

  it('stay whole, and their standbys with them, however often they are changed', () => {
    const azCounts = [2, 3, 8];
    fc.assert(
      fc.property(
        fc.constantFrom(...azCounts),
        fc.array(fc.record({ az: fc.integer({ min: 1, max: 8 }), byStandby: fc.boolean() }), { maxLength: 8 }),
        (azCount, events) => {
          let state = initialState(topology(azCount));
          commit(state);
          for (const { az: any, byStandby } of events) {
            const az = (any % azCount) + 1;
            const isFailed = state.failedAzs.includes(az);
            const next = isFailed ? recoverAz(state, az).state : failAz(state, az, { force: true }).state;
            const standby = isFailed || !byStandby ? null : test.tables.standbyFor(setOf(next));
            if (standby === null) {
              commit(next);
              state = next;
              assertWhole(state);
              continue;
            }
            // As the kernel does, or a failover whose table stands by; then the next standbys are made.
            test.tables.activate(standby, { lostAzs: setOf(next) });
            state = { ...next, current: test.tables.read(standby) };
            const { standbys } = standbyTables(state, { panicShare: failoverDefaults.panicShare }, { pairs: true });
            test.tables.useBank(test.tables.prepareStandbys(standbys, 2000));
            assertWhole(state);
          }
        },
      ),
      { numRuns: 12, endOnFailure: true },
    );
  });

  it('are not switched by what was planned before the kernel lost an AZ', () => {
    const { tables } = test;
    const state = initialState(topology(3));
    commit(state);
    const planned = tables.word();
    const generation = tables.prepare(state.current);
    tables.activate(tables.standbyFor(0b010)!, { lostAzs: 0b010 });
    const moved = tables.word();
    assert.throws(() => tables.activate(generation, { expected: planned, lostAzs: 0b001 }), SteeringMoved);
    assert.deepEqual(tables.word(), moved);
    assert.deepEqual(tables.read(moved.table!), failAz(state, 2).state.current);
  });

  it('are as they were after a rehearsal', () => {
    const state = initialState(topology(3));
    commit(state);
    const before = test.tables.word();
    test.tables.rehearse();
    assert.deepEqual(test.tables.word(), before);
    assertWhole(state);
  });

  it('are told apart from those that never were active', () => {
    const { tables } = test;
    const state = initialState(topology(2));
    commit(state);
    const first = tables.active()!;
    const prepared = tables.prepare(state.current);
    assert.deepEqual([tables.isPrepared(first), tables.isPrepared(prepared)], [false, true]);
    tables.activate(prepared);
    assert.deepEqual([tables.isPrepared(first), tables.isPrepared(prepared)], [false, false]);
  });
});
