// SPDX-License-Identifier: Apache-2.0
/** How a device is failed over and rebalanced: from the user form to the model, and back. */
import { type FailoverConfig, failoverDefaults, type RebalanceConfig } from '../steering/failover.ts';
import type { Path, ProblemList } from '../steering/rules/problems.ts';
import type { FailoverInput } from './schema.ts';

/** What is not given is at its default. */
export function readFailover(user: Partial<FailoverInput>, path: Path, problems: ProblemList): FailoverConfig {
  const { deadman, rebalance = {} } = user;
  return {
    policy: user.policy ?? failoverDefaults.policy,
    panicShare: user.panic_share ?? failoverDefaults.panicShare,
    moveDeadlineMs: user.move_deadline_ms ?? failoverDefaults.moveDeadlineMs,
    deadman: deadman?.policy ?? failoverDefaults.deadman,
    deadmanMs: deadman?.timeout_ms ?? failoverDefaults.deadmanMs,
    rebalance: readRebalance(rebalance, [...path, 'rebalance'], problems),
    queueCapacityPps: user.queue_capacity_pps ?? failoverDefaults.queueCapacityPps,
  };
}

function readRebalance(
  user: NonNullable<FailoverInput['rebalance']>,
  path: Path,
  problems: ProblemList,
): RebalanceConfig {
  const defaults = failoverDefaults.rebalance;
  // One that is given alone takes the other along.
  const threshold = user.threshold ?? Math.max(defaults.threshold, user.max_over_mean ?? 0);
  const maxOverMean = user.max_over_mean ?? Math.min(defaults.maxOverMean, threshold);
  if (maxOverMean > threshold) {
    problems.add(
      [...path, 'max_over_mean'],
      `max_over_mean ${maxOverMean} is above threshold ${threshold}`,
      'Make it at most the threshold: what is aimed at must not be worse than what is left alone.',
    );
  }
  return {
    auto: user.auto ?? defaults.auto,
    threshold,
    maxOverMean,
    minGain: user.min_gain ?? defaults.minGain,
    coolDownMs: user.cool_down_ms ?? defaults.coolDownMs,
  };
}

/** The canonical user form with every field. What a queue can take is left out where it is not known. */
export function formatWholeFailover(config: FailoverConfig): FailoverInput {
  const { rebalance, queueCapacityPps } = config;
  return {
    policy: config.policy,
    panic_share: config.panicShare,
    move_deadline_ms: config.moveDeadlineMs,
    deadman: { policy: config.deadman, timeout_ms: config.deadmanMs },
    rebalance: {
      auto: rebalance.auto,
      threshold: rebalance.threshold,
      max_over_mean: rebalance.maxOverMean,
      min_gain: rebalance.minGain,
      cool_down_ms: rebalance.coolDownMs,
    },
    ...(queueCapacityPps === null ? {} : { queue_capacity_pps: queueCapacityPps }),
  };
}

/** The canonical user form without what is at its default; undefined: all of it is. readFailover gives the same back. */
export function formatFailover(config: FailoverConfig): FailoverInput | undefined {
  return withoutDefaults(formatWholeFailover(config), formatWholeFailover(failoverDefaults));
}

function withoutDefaults<Fields extends object>(fields: Fields, defaults: Fields): Fields | undefined {
  const kept = Object.entries(fields).flatMap(([name, value]: [string, unknown]) => {
    const usual = (defaults as Record<string, unknown>)[name];
    const differs = isObject(value) && isObject(usual) ? withoutDefaults(value, usual) : value;
    return differs === undefined || differs === usual ? [] : [[name, differs] as const];
  });
  return kept.length === 0 ? undefined : (Object.fromEntries(kept) as Fields);
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
