// SPDX-License-Identifier: Apache-2.0
/** What measured load has to do with the steering table: previews of plans, and rebalancing. */
import { formatHomeMoves, homeMoves } from '../steering/home-moves.ts';
import type { BucketLoads } from '../steering/loads.ts';
import type { StateChange, SteeringState } from '../steering/plan-az.ts';
import { type PlanPreview, previewPlan } from '../steering/preview.ts';
import type { AzSteering } from './az-steering.ts';
import { BucketLoadMeter } from './bucket-loads.ts';
import type { Dataplane } from './dataplane.ts';
import type { DeviceMetrics } from './device-metrics.ts';
import type { DeviceState } from './device-state.ts';
import { type RebalanceAsked, type RebalanceChange, type RebalanceCommit, rebalanceDevice } from './rebalancing.ts';
import type { DeviceRecord } from './record.ts';

export interface LoadSteeringParts {
  dataplane: Dataplane;
  steering: AzSteering;
  state: DeviceState;
  metrics: () => DeviceMetrics;
}

export interface PreviewAsked {
  /** What a recovery would do; else a failure. */
  recover?: boolean | undefined;
  /** A failure also when few queues would be left. */
  force?: boolean | undefined;
}

export interface Preview extends PlanPreview {
  plan: StateChange['plan'];
  /** Time over which loads were measured; null: each flow's mean since it was first seen. */
  loadWindowMs: number | null;
}

type Commit = (state: SteeringState, also: Partial<DeviceRecord>) => number;

export class LoadSteering {
  readonly #parts: LoadSteeringParts;
  #meter: BucketLoadMeter | undefined;

  constructor(parts: LoadSteeringParts) {
    this.#parts = parts;
  }

  #measure(): BucketLoads {
    this.#meter ??= new BucketLoadMeter(this.#parts.dataplane);
    return this.#meter.measure();
  }

  /** What failing or recovering an AZ would do to buckets, flows and queues. Nothing is changed. */
  preview(az: string, { recover = false, force = false }: PreviewAsked = {}): Preview {
    const { steering, state } = this.#parts;
    const change = recover ? steering.planRecovery(az) : steering.planFailure(az, force);
    const loads = this.#measure();
    const { queueCapacityPps, moveDeadlineMs } = state.config.failover;
    const preview = previewPlan({
      plan: change.plan,
      queues: change.state.queues,
      az: state.model.azIndex(az),
      loads,
      flowsByBucket: loads.flows,
      capacityPps: queueCapacityPps,
      moveDeadlineMs,
    });
    return { ...preview, plan: change.plan, loadWindowMs: loads.windowMs };
  }

  /** Moves buckets by their measured load: recorded first, then switched, in order. */
  rebalance(asked: RebalanceAsked = {}): RebalanceChange {
    const { steering, state } = this.#parts;
    const loads = this.#measure();
    const run = (current: SteeringState, commit: Commit): RebalanceChange =>
      rebalanceDevice(
        {
          settings: state.config.failover.rebalance,
          steering: current,
          measure: () => loads.packetsPerSecond,
          lastRebalance: state.record.lastRebalance,
          commit: (result) => this.#commit(current, result, commit),
        },
        asked,
      );
    if (asked.dryRun === true) return run(steering.steering(), () => 0);
    return steering.planned(run);
  }

  #commit(steering: SteeringState, { home, current, moves, at }: RebalanceCommit, commit: Commit): number {
    const planned = this.#parts.state.model.homeState().home;
    const also = { homeMoves: formatHomeMoves(homeMoves(planned, home)), lastRebalance: at };
    const commitNs = commit({ ...steering, home, current }, also);
    this.#parts.metrics().countPlannedBuckets(moves.length);
    return commitNs;
  }
}
