// SPDX-License-Identifier: Apache-2.0
/** Moves buckets between queues by their measured load: by hand, or by the daemon itself. */
import { VnicError } from '../errors.ts';
import { type DeviceId, deviceText } from '../loader/pins.ts';
import type { RebalanceConfig } from '../steering/failover.ts';
import { effectiveQueues, type SteeringState } from '../steering/plan-az.ts';
import type { PlanMove } from '../steering/plan-summary.ts';
import { type RebalanceResult, rebalance } from '../steering/rebalance.ts';

/** What is left out is as configured. */
export interface RebalanceAsked {
  threshold?: number | undefined;
  maxOverMean?: number | undefined;
  minGain?: number | undefined;
  /** Also while the last one is not long ago. */
  force?: boolean | undefined;
  /** Nothing is changed. */
  dryRun?: boolean;
  now?: Date;
}

export interface RebalanceChange {
  /** `moved`, or why nothing is. */
  reason: RebalanceResult['reason'];
  /** Largest load of a queue over its fair load. */
  before: number;
  after: number;
  /** Whether `after` is what was aimed at, or better. */
  reached: boolean;
  moves: PlanMove[];
  performed: boolean;
  /** Null where nothing was switched. */
  commitNs: number | null;
  /** Until the next one may be; null: not waited for. */
  coolDownLeftMs: number | null;
}

/** What is to be recorded and made active. */
export interface RebalanceCommit extends Pick<SteeringState, 'home' | 'current'> {
  moves: readonly PlanMove[];
  /** ISO 8601 */
  at: string;
}

/** A device, as far as rebalancing has to do with it. */
export interface RebalancePorts {
  settings: RebalanceConfig;
  /** Home and current table as they are now. */
  steering: SteeringState;
  /** Load of each bucket, by row; any one unit. Asked for once. */
  measure: () => readonly Float64Array[];
  /** ISO 8601; undefined: never. */
  lastRebalance: string | undefined;
  /** Records, then switches; gives how long the switch took. */
  commit: (commit: RebalanceCommit) => number;
}

/** Measures, plans, and unless it is a dry run does it. */
export function rebalanceDevice(ports: RebalancePorts, asked: RebalanceAsked = {}): RebalanceChange {
  const { steering, settings } = ports;
  const { force = false, dryRun = false, now = new Date() } = asked;
  const threshold = asked.threshold ?? settings.threshold;
  const options = {
    threshold,
    // What is aimed at is never worse than what is left alone.
    maxOverMean: asked.maxOverMean ?? Math.min(settings.maxOverMean, threshold),
    minGain: asked.minGain ?? settings.minGain,
    coolDownMs: force ? 0 : settings.coolDownMs,
  };
  const last = ports.lastRebalance === undefined ? null : Date.parse(ports.lastRebalance);
  // The clock on the wall may have been set back since.
  const lastRebalanceMs = last === null || last > now.getTime() ? null : last;
  const queues = effectiveQueues(steering);
  const bucketLoads = ports.measure();
  const result = rebalance({ ...steering, queues, bucketLoads, nowMs: now.getTime(), lastRebalanceMs, options });
  const { reason, before, after, reached, moves, home, current } = result;
  const performed = reason === 'moved' && !dryRun;
  const commitNs = performed ? ports.commit({ home, current, moves, at: now.toISOString() }) : null;
  const coolDownLeftMs =
    reason === 'cool_down' && lastRebalanceMs !== null ? lastRebalanceMs + options.coolDownMs - now.getTime() : null;
  return { reason, before, after, reached, moves, performed, commitNs, coolDownLeftMs };
}

export interface Rebalancing {
  rebalance: (asked: RebalanceAsked) => RebalanceChange;
}

/** An attached device, as the daemon rebalances it. */
interface Rebalanced extends Rebalancing {
  config: { failover: { rebalance: RebalanceConfig } };
}

export interface AutoRebalanceOptions<Device extends Rebalanced> {
  controller: {
    records: { devices: () => DeviceId[] };
    isPresent: (device: DeviceId) => boolean;
    readDevice: <T>(device: DeviceId, action: (attached: Device) => T) => T;
    withDevice: <T>(device: DeviceId, action: (attached: Device) => T) => T;
  };
  publish: (event: { type: string; device: string | null; data: Record<string, unknown> }) => void;
}

/**
 * Rebalances every device whose configuration asks for it; to be called every few seconds. A look costs no lock, a move
 * does. Never throws; what keeps it from a move is told once.
 */
export class AutoRebalance<Device extends Rebalanced> {
  readonly #options: AutoRebalanceOptions<Device>;
  /** By device: why the last move could not be made. */
  readonly #refused = new Map<string, string>();

  constructor(options: AutoRebalanceOptions<Device>) {
    this.#options = options;
  }

  run(now = new Date()): void {
    const { controller } = this.#options;
    for (const device of controller.records.devices()) {
      try {
        if (!controller.isPresent(device) || !this.#isDue(device, now)) continue;
        const change = controller.withDevice(device, (attached) => attached.rebalance({ now }));
        this.#refused.delete(deviceText(device));
        if (change.performed) this.#options.publish(rebalancedEvent(device, change, 'auto'));
      } catch (error) {
        this.#tellRefusal(device, error);
      }
    }
  }

  #isDue(device: DeviceId, now: Date): boolean {
    return this.#options.controller.readDevice(device, (attached) => {
      if (!attached.config.failover.rebalance.auto) return false;
      return attached.rebalance({ now, dryRun: true }).reason === 'moved';
    });
  }

  #tellRefusal(device: DeviceId, thrown: unknown): void {
    const error = thrown instanceof VnicError ? thrown : null;
    // It vanished meanwhile: the keeper tells that.
    if (error?.code === 'not_found') return;
    const code = error?.code ?? 'failed';
    const message = error?.message ?? `Unexpected: ${String(thrown)}`;
    const text = deviceText(device);
    if (this.#refused.get(text) === message) return;
    this.#refused.set(text, message);
    const data = { code, message, remedy: error?.remedy ?? null };
    this.#options.publish({ type: 'rebalance.refused', device: text, data });
  }
}

/** @param cause who asked for it */
export function rebalancedEvent(device: DeviceId, change: RebalanceChange, cause: 'manual' | 'auto') {
  const { before, after, moves, commitNs } = change;
  const data = { cause, before, after, moved: moves.length, commitNs };
  return { type: 'rebalanced', device: deviceText(device), data };
}
