// SPDX-License-Identifier: Apache-2.0
/** Rebalancing by measured load: what is recorded and switched, and when it is left alone. */
import assert from 'node:assert/strict';
import {
  AutoRebalance,
  type RebalanceAsked,
  type RebalanceChange,
  type RebalanceCommit,
  type RebalancePorts,
  rebalanceDevice,
} from '../../src/app/rebalancing.ts';
import { VnicError } from '../../src/errors.ts';
import type { DeviceId } from '../../src/loader/pins.ts';
import { failoverDefaults, type RebalanceConfig } from '../../src/steering/failover.ts';
import { initialState, type SteeringState } from '../../src/steering/plan-az.ts';
import type { QueueSpec } from '../../src/steering/queues.ts';
import { bucketCount, rowCount } from '../../src/steering/table.ts';

const noon = new Date('2026-01-01T12:00:00.000Z');
const after = (ms: number): Date => new Date(noon.getTime() + ms);

/** Four queues, no AZ; `hot` buckets of queue 0 carry ten times what the others do. */
class FakeDevice {
  readonly config: { failover: { rebalance: RebalanceConfig } };
  readonly commits: RebalanceCommit[] = [];
  lastRebalance: string | undefined;
  measured = 0;
  state: SteeringState;
  hot: number;

  constructor(settings: Partial<RebalanceConfig> = {}, hot = 100) {
    this.config = { failover: { rebalance: { ...failoverDefaults.rebalance, ...settings } } };
    this.hot = hot;
    const queues = [0, 1, 2, 3].map((index): QueueSpec => ({ index, az: null, cpu: 0, numaNode: -1, usable: true }));
    this.state = initialState({ queues, azs: [] });
  }

  #loads(): Float64Array[] {
    this.measured++;
    const loads = Array.from({ length: rowCount }, () => new Float64Array(bucketCount));
    // The first buckets of queue 0 as it was planned, wherever they are now.
    const homes = initialState(this.state).home.rows[0]!;
    let left = this.hot;
    for (const [bucket, queue] of homes.entries()) loads[0]![bucket] = queue === 0 && left-- > 0 ? 10 : 1;
    if (this.hot < 0) for (const row of loads) row.fill(0);
    return loads;
  }

  rebalance(asked: RebalanceAsked): RebalanceChange {
    const ports: RebalancePorts = {
      settings: this.config.failover.rebalance,
      steering: this.state,
      measure: () => this.#loads(),
      lastRebalance: this.lastRebalance,
      commit: (commit) => {
        this.commits.push(commit);
        this.state = { ...this.state, home: commit.home, current: commit.current };
        this.lastRebalance = commit.at;
        return 1234;
      },
    };
    return rebalanceDevice(ports, asked);
  }
}

describe('rebalancing a device', () => {
  it('moves buckets off the loaded queue, records when, and makes them at home where they are', () => {
    const device = new FakeDevice();
    const change = device.rebalance({ now: noon });
    assert.deepEqual([change.reason, change.performed, change.reached, change.commitNs], ['moved', true, true, 1234]);
    assert.ok(change.before > 1.5 && change.after <= 1.05, `${change.before} to ${change.after}`);
    assert.ok(change.moves.every(({ from, kind }) => from === 0 && kind === 'planned'));
    const [commit, ...others] = device.commits;
    assert.deepEqual(others, []);
    assert.equal(commit?.at, noon.toISOString());
    assert.equal(commit.moves.length, change.moves.length);
    for (const { row, bucket, to } of change.moves) {
      assert.deepEqual([commit.current.rows[row]?.[bucket], commit.home.rows[row]?.[bucket]], [to, to]);
    }
  });

  it('only says what it would do in a dry run', () => {
    const device = new FakeDevice();
    const dry = device.rebalance({ now: noon, dryRun: true });
    assert.deepEqual([dry.reason, dry.performed, dry.commitNs], ['moved', false, null]);
    assert.deepEqual(device.commits, []);
    const { performed: _, commitNs: __, ...done } = device.rebalance({ now: noon });
    const { performed: ___, commitNs: ____, ...said } = dry;
    assert.deepEqual(done, said);
  });

  it('waits between two times, says for how long, and does not wait when forced or when the clock was set back', () => {
    const device = new FakeDevice({ coolDownMs: 60_000 });
    device.rebalance({ now: noon });
    device.hot = 300;
    const early = device.rebalance({ now: after(20_000) });
    assert.deepEqual([early.reason, early.performed, early.coolDownLeftMs], ['cool_down', false, 40_000]);
    assert.equal(device.rebalance({ now: after(20_000), dryRun: true, force: true }).reason, 'moved');
    assert.equal(device.rebalance({ now: after(-1), dryRun: true }).reason, 'moved');
    const late = device.rebalance({ now: after(60_000) });
    assert.deepEqual([late.reason, late.performed, late.coolDownLeftMs], ['moved', true, null]);
  });

  it('does nothing below the threshold, without load, or for a gain that is too small, and says which', () => {
    const reason = (device: FakeDevice, asked: RebalanceAsked = {}): string => {
      const change = device.rebalance(asked);
      assert.deepEqual([change.performed, change.moves.length, device.commits.length], [false, 0, 0]);
      return change.reason;
    };
    assert.equal(reason(new FakeDevice({}, 0)), 'balanced');
    assert.equal(reason(new FakeDevice({}, -1)), 'no_load');
    assert.equal(reason(new FakeDevice(), { threshold: 3 }), 'balanced');
    assert.equal(reason(new FakeDevice(), { minGain: 5 }), 'below_min_gain');
  });

  it('aims at no more than the threshold that is asked for', () => {
    const device = new FakeDevice({}, 3);
    assert.equal(device.rebalance({ dryRun: true }).reason, 'balanced');
    const change = device.rebalance({ threshold: 1.005, minGain: 0.001 });
    assert.equal(change.reason, 'moved');
    assert.ok(change.after <= 1.005, String(change.after));
  });
});

describe('the daemon, rebalancing by itself', () => {
  interface Event {
    type: string;
    device: string | null;
    data: Record<string, unknown>;
  }

  function rig(devices: Record<string, FakeDevice>) {
    const events: Event[] = [];
    const locked: string[] = [];
    let failure: VnicError | null = null;
    const auto = new AutoRebalance<FakeDevice>({
      controller: {
        records: { devices: () => Object.keys(devices).map((name): DeviceId => ({ name, netns: null })) },
        isPresent: ({ name }) => name !== 'gone',
        readDevice: ({ name }, action) => action(devices[name]!),
        withDevice: ({ name }, action) => {
          locked.push(name);
          if (failure !== null) throw failure;
          return action(devices[name]!);
        },
      },
      publish: (event) => events.push(event),
    });
    return { auto, events, locked, fail: (error: VnicError | null) => (failure = error) };
  }

  it('touches those devices only that ask for it, are there and out of balance, and tells what it did', () => {
    const devices = {
      manual: new FakeDevice(),
      auto: new FakeDevice({ auto: true }),
      even: new FakeDevice({ auto: true }, 0),
      gone: new FakeDevice({ auto: true }),
    };
    const { auto, events, locked } = rig(devices);
    auto.run(noon);
    auto.run(after(5000));
    assert.deepEqual(locked, ['auto']);
    assert.equal(devices.manual.measured, 0);
    const moved = devices.auto.commits[0]?.moves.length ?? 0;
    assert.equal(events.length, 1);
    const { type, device, data } = events[0]!;
    assert.deepEqual(
      [type, device, data['cause'], data['moved'], data['commitNs']],
      ['rebalanced', 'auto', 'auto', moved, 1234],
    );
    assert.ok((data['before'] as number) > (data['after'] as number));
  });

  it('tells once what keeps it from a move, and goes on when that is over', () => {
    const device = new FakeDevice({ auto: true });
    const { auto, events, fail } = rig({ eth0: device });
    fail(new VnicError('failed', 'the disk is full', { remedy: 'make room' }));
    auto.run(noon);
    auto.run(after(5000));
    assert.deepEqual(events, [
      {
        type: 'rebalance.refused',
        device: 'eth0',
        data: { code: 'failed', message: 'the disk is full', remedy: 'make room' },
      },
    ]);
    fail(new VnicError('not_found', 'it vanished'));
    auto.run(after(10_000));
    assert.equal(events.length, 1);
    fail(null);
    auto.run(after(15_000));
    assert.deepEqual(
      events.map(({ type }) => type),
      ['rebalance.refused', 'rebalanced'],
    );
  });
});
