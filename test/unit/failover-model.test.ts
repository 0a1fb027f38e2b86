// SPDX-License-Identifier: Apache-2.0
/** Random sequences of everything that can happen to a device's AZs, against a model that knows sets and no tables. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { VnicError } from '../../src/errors.ts';
import type { FailoverPolicyName } from '../../src/steering/failover.ts';
import { applyHomeMoves, formatHomeMoves, homeMoves, parseHomeMoves } from '../../src/steering/home-moves.ts';
import {
  changePolicy,
  failAz,
  initialState,
  recoverAz,
  replan,
  type StateChange,
  type SteeringState,
  updateTopology,
} from '../../src/steering/plan-az.ts';
import { planHome } from '../../src/steering/planner.ts';
import type { Topology } from '../../src/steering/queues.ts';
import { rebalance } from '../../src/steering/rebalance.ts';
import {
  bucketCount,
  countBuckets,
  noQueue,
  queuesOf,
  rowCount,
  type SteeringTable,
} from '../../src/steering/table.ts';
import { randomSource } from '../support/random.ts';
import { equalWeightTopologies, evenTopology, weightedTopologies } from '../support/topologies.ts';

type Event =
  | { kind: 'fail'; az: number; force: boolean }
  | { kind: 'recover'; az: number }
  | { kind: 'policy'; policy: FailoverPolicyName }
  | { kind: 'weight'; az: number; weight: number }
  | { kind: 'health'; queue: number }
  | { kind: 'rebalance'; seed: number; threshold: number };

const panicShare = 0.25;

/** What is known of a device without any table. */
interface Model {
  failed: Set<number>;
  ill: Set<number>;
  policy: FailoverPolicyName;
}

function withQueues({ azs }: Pick<Topology, 'azs'>): number[] {
  return azs.filter((az) => az.queues.length > 0).map((az) => az.index);
}

function usableIn(model: Model, { queues }: Pick<Topology, 'queues'>): number[] {
  const isLost = (az: number | null): boolean => model.policy === 'evacuate' && az !== null && model.failed.has(az);
  return queues.filter(({ index, az }) => !model.ill.has(index) && !isLost(az)).map((queue) => queue.index);
}

/** The queues that a row's packets may go to. */
function allowedIn(model: Model, topology: Topology, row: number): Set<number> {
  const usable = usableIn(model, topology);
  const azOf = (queue: number): number | null => topology.queues.find(({ index }) => index === queue)!.az;
  const own = usable.filter((queue) => row > 0 && azOf(queue) === row);
  if (usable.length === 0) return new Set([noQueue]);
  if (own.length === 0) return new Set(usable);
  const borrows = model.policy === 'absorb' && !model.failed.has(row);
  const lent = usable.filter((queue) => model.failed.has(azOf(queue) ?? 0));
  return new Set(borrows ? [...own, ...lent] : own);
}

function randomLoads(seed: number): Float64Array[] {
  const random = randomSource(seed);
  return Array.from({ length: rowCount }, () => {
    const hot = random() % 3;
    return Float64Array.from({ length: bucketCount }, () => (hot === 0 ? 0 : 2 ** 20 / ((random() >>> 12) + 1)));
  });
}

function sameTable(one: SteeringTable, other: SteeringTable): boolean {
  const bytes = (row: Uint16Array): Buffer => Buffer.from(row.buffer, row.byteOffset, row.byteLength);
  return (
    one.usableQueues === other.usableQueues && one.rows.every((row, r) => bytes(row).equals(bytes(other.rows[r]!)))
  );
}

/** One device and its model, going on together. */
class Walk {
  state: SteeringState;
  readonly model: Model;
  /** Whether buckets were ever moved by their load, so that counts say nothing of balance. */
  rebalanced = false;
  /** Whether the home is not what planHome() gives. */
  homeMoved = false;

  constructor(topology: Topology, policy: FailoverPolicyName) {
    this.state = initialState(topology, [], { policy });
    this.model = { failed: new Set(), ill: new Set(), policy };
  }

  play(event: Event): void {
    const before = this.state;
    const copy = structuredClone(before);
    const change = this.#perform(event);
    assert.deepEqual(before, copy, `${event.kind} changed the state that it was given`);
    if (change !== null) {
      this.state = change.state;
      this.#checkMoves(event, before, change);
    }
    this.check();
  }

  #perform(event: Event): StateChange | null {
    const { model, state } = this;
    switch (event.kind) {
      case 'fail':
        return this.#fail(event);
      case 'recover': {
        if (!model.failed.has(event.az)) return this.#refused('conflict', () => recoverAz(state, event.az));
        model.failed.delete(event.az);
        return recoverAz(state, event.az);
      }
      case 'policy':
        model.policy = event.policy;
        return changePolicy(state, event.policy);
      case 'weight': {
        const azs = state.azs.map((az) => (az.index === event.az ? { ...az, weight: event.weight } : az));
        const isSame = state.azs.every((az, i) => az.weight === azs[i]!.weight);
        if (isSame) return null;
        this.homeMoved = false;
        return updateTopology(state, { queues: state.queues, azs });
      }
      case 'health': {
        const { index } = state.queues[event.queue % state.queues.length]!;
        if (!model.ill.delete(index)) model.ill.add(index);
        const queues = state.queues.map((queue) => ({ ...queue, usable: !model.ill.has(queue.index) }));
        return updateTopology(state, { queues, azs: state.azs });
      }
      case 'rebalance':
        this.#rebalance(event);
        return null;
    }
  }

  #fail({ az, force }: Event & { kind: 'fail' }): StateChange | null {
    const { model, state } = this;
    const policy = { force, panicShare };
    if (model.failed.has(az)) return this.#refused('conflict', () => failAz(state, az, policy));
    const before = usableIn(model, state).length;
    model.failed.add(az);
    const after = usableIn(model, state).length;
    if (after < before && after < panicShare * state.queues.length && !force) {
      model.failed.delete(az);
      return this.#refused('policy_refused', () => failAz(state, az, policy));
    }
    return failAz(state, az, policy);
  }

  #refused(code: string, action: () => unknown): null {
    assert.throws(action, (error) => error instanceof VnicError && error.code === code);
    return null;
  }

  #rebalance({ seed, threshold }: Event & { kind: 'rebalance' }): void {
    const { state, model } = this;
    const bucketLoads = randomLoads(seed);
    const queues = state.queues.map((queue) => ({ ...queue, usable: usableIn(model, state).includes(queue.index) }));
    const options = { threshold, maxOverMean: threshold, minGain: 0, maxMoves: 200 };
    const result = rebalance({ ...state, queues, bucketLoads, nowMs: 0, lastRebalanceMs: null, options });
    if (result.reason !== 'moved') return;
    this.rebalanced = true;
    this.homeMoved = true;
    assert.ok(result.after <= result.before + 1e-9);
    for (const { row, bucket, from, to } of result.moves) {
      const wasHome = state.home.rows[row]![bucket] === from;
      assert.equal(result.home.rows[row]![bucket], wasHome ? to : state.home.rows[row]![bucket]);
    }
    // Kept as text and applied to the home that is made anew.
    const computed = planHome(state.queues, state.azs);
    const kept = parseHomeMoves(formatHomeMoves(homeMoves(computed, result.home)));
    assert.ok(sameTable(applyHomeMoves(computed, kept, state.queues), result.home));
    this.state = { ...state, home: result.home, current: result.current };
    assert.deepEqual(replan(this.state).plan.moves, [], 'a plan takes the moves of a rebalance back');
  }

  /** What may move in this event. */
  #checkMoves(event: Event, before: SteeringState, { plan }: StateChange): void {
    const usable = new Set(usableIn(this.model, this.state));
    for (const { from, kind } of plan.moves) {
      assert.equal(kind, from !== noQueue && !usable.has(from) ? 'forced' : 'planned');
    }
    const isLossOnly =
      event.kind === 'fail' || (event.kind === 'health' && this.model.ill.size > this.#illBefore(before));
    if (isLossOnly && this.model.policy === 'evacuate') {
      assert.equal(plan.summary.planned, 0);
      assert.equal(plan.summary.collateral, 0);
    }
  }

  #illBefore(before: SteeringState): number {
    return before.queues.filter((queue) => !queue.usable).length;
  }

  check(): void {
    const { model, state } = this;
    assert.deepEqual(
      state.failedAzs,
      [...model.failed].sort((a, b) => a - b),
    );
    assert.deepEqual(queuesOf(state.current.usableQueues), usableIn(model, state));
    for (let row = 0; row < rowCount; row++) {
      const allowed = allowedIn(model, state, row);
      const counts = countBuckets(state.current.rows[row]!);
      for (const queue of new Set(state.current.rows[row])) {
        assert.ok(allowed.has(queue), `row ${row} uses queue ${queue}`);
      }
      this.#checkShares(row, allowed, counts);
    }
  }

  #checkShares(row: number, allowed: Set<number>, counts: Uint32Array): void {
    const { model, state } = this;
    const isEven = state.azs.every((az) => az.weight === 1);
    const borrows = model.policy === 'absorb' && row > 0 && !model.failed.has(row) && model.failed.size > 0;
    if (!isEven || this.rebalanced || borrows || allowed.has(noQueue)) return;
    for (const queue of allowed) {
      const share = bucketCount / allowed.size;
      assert.ok(Math.abs(counts[queue]! - share) < 1 + 1e-6, `row ${row} queue ${queue}: ${counts[queue]} of ${share}`);
    }
  }

  /** Everything is well again. */
  end(): void {
    for (const az of this.model.failed) this.play({ kind: 'recover', az });
    for (const queue of this.model.ill) {
      this.play({ kind: 'health', queue: this.state.queues.findIndex(({ index }) => index === queue) });
    }
    assert.ok(sameTable(this.state.current, this.state.home));
    if (!this.homeMoved) assert.ok(sameTable(this.state.home, planHome(this.state.queues, this.state.azs)));
  }
}

const azIndex = fc.integer({ min: 1, max: 8 });
const policies = fc.constantFrom<FailoverPolicyName>('evacuate', 'absorb');
const fails = fc.record({ kind: fc.constant('fail' as const), az: azIndex, force: fc.boolean() });
const recovers = fc.record({ kind: fc.constant('recover' as const), az: azIndex });
const rebalances = fc.record({
  kind: fc.constant('rebalance' as const),
  seed: fc.integer({ min: 1 }),
  threshold: fc.constantFrom(1.02, 1.2, 1.5),
});
const policyChanges = fc.record({ kind: fc.constant('policy' as const), policy: policies });
const weights = fc.record({
  kind: fc.constant('weight' as const),
  az: azIndex,
  weight: fc.constantFrom(1, 1, 2, 0.5, 10),
});
const illnesses = fc.record({ kind: fc.constant('health' as const), queue: fc.nat({ max: 63 }) });
const events = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fails },
    { weight: 4, arbitrary: recovers },
    { weight: 2, arbitrary: rebalances },
    { weight: 1, arbitrary: policyChanges },
    { weight: 1, arbitrary: weights },
    { weight: 1, arbitrary: illnesses },
  ),
  { minLength: 3, maxLength: 14 },
);

/** Only what the topology has: events of AZs that it lacks are made those of one that it has. */
function fit(event: Event, azs: readonly number[]): Event {
  return 'az' in event ? { ...event, az: azs[event.az % azs.length]! } : event;
}

const anyTopology = fc
  .oneof(equalWeightTopologies, weightedTopologies)
  .filter((topology) => withQueues(topology).length > 0);

describe('failover, recovery, weights, illness, rebalance and policies in any order', function () {
  this.timeout(120_000);

  it('traffic goes where the model says, refused events change nothing, and the end is home', () => {
    fc.assert(
      fc.property(anyTopology, policies, events, (topology, policy, list) => {
        const walk = new Walk(topology, policy);
        for (const event of list) walk.play(fit(event, withQueues(topology)));
        walk.end();
      }),
      { numRuns: 60 },
    );
  });

  it('all zones fail, in any order, and come back in any other: steering ends with the last one and begins with the first', () => {
    const orders = fc.integer({ min: 2, max: 8 }).chain((azCount) => {
      const azs = Array.from({ length: azCount }, (_, i) => i + 1);
      const order = fc.shuffledSubarray(azs, { minLength: azCount });
      return fc.tuple(order, order, fc.integer({ min: 1, max: 8 }), policies);
    });
    fc.assert(
      fc.property(orders, ([down, up, queuesPerAz, policy]) => {
        const walk = new Walk(evenTopology(down.length * queuesPerAz, down.length), policy);
        const { home } = walk.state;
        for (const az of down) walk.play({ kind: 'fail', az, force: true });
        const nothing = walk.state.current.rows.every((row) => row.every((queue) => queue === noQueue));
        assert.equal(nothing, policy === 'evacuate');
        for (const az of up) walk.play({ kind: 'recover', az });
        assert.ok(sameTable(walk.state.current, home));
      }),
      { numRuns: 40 },
    );
  });

  it('a rebalance during an outage moves what stays in use, and the recovered AZ finds its buckets where they were', () => {
    for (const policy of ['evacuate', 'absorb'] as const) {
      const walk = new Walk(evenTopology(16, 4), policy);
      const { home } = walk.state;
      walk.play({ kind: 'fail', az: 2, force: false });
      walk.play({ kind: 'rebalance', seed: 5, threshold: 1.02 });
      assert.ok(walk.rebalanced, policy);
      const moved = walk.state.home;
      walk.play({ kind: 'recover', az: 2 });
      assert.ok(sameTable(walk.state.current, moved));
      const isOfAz2 = (queue: number): boolean => queue >= 4 && queue < 8;
      const changed = homeMoves(home, moved);
      assert.ok(changed.length > 0);
      for (const { row, bucket } of changed) {
        const was = home.rows[row]![bucket]!;
        // With evacuate AZ 2 had lost them: they were not where their home is, so no home changed.
        if (policy === 'evacuate') assert.ok(!isOfAz2(was), `row ${row} bucket ${bucket}`);
        if (row > 0 && row <= 4) assert.equal(Math.floor(moved.rows[row]![bucket]! / 4) + 1, row);
      }
    }
  });
});
