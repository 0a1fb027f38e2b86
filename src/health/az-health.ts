// SPDX-License-Identifier: Apache-2.0
/**
 * Whether an AZ is dead or alive, from the results of its probes and, once it is failed, from signs of life that the
 * kernel sees: plain data and functions of a given monotonic clock. Results go in with afterResult and afterSigns,
 * decide() says what follows, and what was done of it is told by the after… functions.
 */
import {
  type AzConfig,
  type AzProbe,
  defaultFlapDamping,
  defaultHoldDownMs,
  type FlapDamping,
} from '../steering/azs.ts';
import { isSuppressing, noPenalty, type Penalty, penaltyAfterFailure } from './damping.ts';

/** failed: found dead, and recovered when found alive; held: by somebody, who has to recover it. */
export type WatchedState = 'up' | 'failed' | 'held';

/** Without probes, quorum is 0: nothing fails the AZ but the kernel. */
export interface HealthPolicy extends Pick<AzProbe, 'fall' | 'rise' | 'quorum'> {
  readonly holdDownMs: number;
  readonly flap: FlapDamping;
  readonly autoRecover: boolean;
}

export interface TargetHealth {
  readonly name: string;
  readonly up: boolean;
  /** In a row. */
  readonly successes: number;
  readonly failures: number;
  /** Of the failures in a row; null: there is none. */
  readonly failingSinceMs: number | null;
  readonly lastError: string | null;
}

/** Something that a failed AZ must show before it is used again, such as packets. */
export interface Sign {
  readonly name: string;
  readonly alive: boolean;
}

export interface AzHealth {
  readonly targets: readonly TargetHealth[];
  /** Of a failed AZ: looks in a row at which each sign was there. */
  readonly signs: readonly { readonly name: string; readonly successes: number }[];
  readonly state: WatchedState;
  readonly stateSinceMs: number;
  readonly penalty: Penalty;
  /** When the failure or recovery that is due was last refused; null: it was not. */
  readonly refusedAtMs: number | null;
}

/** `error` null: it answered. */
export interface TargetResult {
  readonly error: string | null;
}

export type Decision = 'fail' | 'recover';

/** Looks in a row at which a sign of life must be there. */
const DEFAULT_RISE = 5;

/** What was refused is asked for again after this, for what it was refused for may have changed. */
const REFUSED_AGAIN_MS = 1000;

export function policyOf(az: AzConfig): HealthPolicy {
  return {
    fall: az.probe?.fall ?? 1,
    rise: az.probe?.rise ?? DEFAULT_RISE,
    quorum: az.probe?.quorum ?? 0,
    holdDownMs: az.holdDownMs ?? defaultHoldDownMs,
    flap: az.flap ?? defaultFlapDamping,
    autoRecover: az.autoRecover ?? true,
  };
}

function newTarget(name: string, up: boolean): TargetHealth {
  return { name, up, successes: 0, failures: 0, failingSinceMs: null, lastError: null };
}

/**
 * Targets start as the AZ is: `fall` failures in a row fail one that is up, `rise` successes recover one that is failed.
 * @param stateForMs how long the AZ has been in its state
 */
export function newAzHealth(targets: readonly string[], state: WatchedState, nowMs: number, stateForMs = 0): AzHealth {
  return {
    targets: targets.map((name) => newTarget(name, state !== 'failed')),
    signs: [],
    state,
    stateSinceMs: nowMs - Math.max(0, stateForMs),
    penalty: noPenalty(nowMs),
    refusedAtMs: null,
  };
}

function targetAfter(
  target: TargetHealth,
  { error }: TargetResult,
  { fall, rise }: HealthPolicy,
  nowMs: number,
): TargetHealth {
  if (error === null) {
    const successes = target.successes + 1;
    return { ...target, up: target.up || successes >= rise, successes, failures: 0, failingSinceMs: null };
  }
  const failures = target.failures + 1;
  const failingSinceMs = target.failingSinceMs ?? nowMs;
  return { ...target, up: target.up && failures < fall, successes: 0, failures, failingSinceMs, lastError: error };
}

export function afterResult(
  health: AzHealth,
  index: number,
  result: TargetResult,
  policy: HealthPolicy,
  nowMs: number,
): AzHealth {
  const targets = health.targets.map((target, position) =>
    position === index ? targetAfter(target, result, policy, nowMs) : target,
  );
  const isAlive = answering(targets) >= policy.quorum;
  const isDue = isAlive !== (health.state === 'up');
  return { ...health, targets, refusedAtMs: isDue ? health.refusedAtMs : null };
}

/** One look at the signs that are asked for; those of an AZ that is up say nothing. */
export function afterSigns(health: AzHealth, signs: readonly Sign[]): AzHealth {
  const known = new Map(health.signs.map(({ name, successes }) => [name, successes]));
  const counted = signs.map(({ name, alive }) => ({ name, successes: alive ? (known.get(name) ?? 0) + 1 : 0 }));
  return { ...health, signs: health.state === 'up' ? [] : counted };
}

function answering(targets: readonly TargetHealth[]): number {
  return targets.filter(({ up }) => up).length;
}

/** Null: leave the AZ as it is. */
export function decide(health: AzHealth, policy: HealthPolicy, nowMs: number): Decision | null {
  const { state, refusedAtMs } = health;
  if (refusedAtMs !== null && nowMs - refusedAtMs < REFUSED_AGAIN_MS) return null;
  const isAlive = answering(health.targets) >= policy.quorum;
  if (state === 'up') return isAlive ? null : 'fail';
  if (state === 'held' || !isAlive || !policy.autoRecover) return null;
  if (health.signs.some(({ successes }) => successes < policy.rise)) return null;
  if (nowMs - health.stateSinceMs < policy.holdDownMs) return null;
  return isSuppressing(health.penalty, policy.flap, nowMs) ? null : 'recover';
}

export function afterFailure(health: AzHealth, policy: HealthPolicy, nowMs: number): AzHealth {
  const penalty = penaltyAfterFailure(health.penalty, policy.flap, nowMs);
  return { ...health, state: 'failed', stateSinceMs: nowMs, penalty, refusedAtMs: null };
}

export function afterRecovery(health: AzHealth, nowMs: number): AzHealth {
  return { ...health, state: 'up', stateSinceMs: nowMs, refusedAtMs: null };
}

export function afterRefusal(health: AzHealth, nowMs: number): AzHealth {
  return { ...health, refusedAtMs: nowMs };
}

/** Somebody else failed or recovered the AZ: probes begin anew from there. What the kernel found dead counts as a failure. */
export function afterOutsideChange(
  health: AzHealth,
  state: WatchedState,
  policy: HealthPolicy,
  nowMs: number,
  stateForMs = 0,
): AzHealth {
  const names = health.targets.map(({ name }) => name);
  const penalty = state === 'failed' ? penaltyAfterFailure(health.penalty, policy.flap, nowMs) : health.penalty;
  return { ...newAzHealth(names, state, nowMs, stateForMs), penalty };
}
