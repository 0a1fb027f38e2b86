// SPDX-License-Identifier: Apache-2.0
/** How a device is to be failed over and rebalanced, as configured. */

/**
 * evacuate: the queues of a lost AZ are lost, so their buckets move and no others. absorb: its queues are idle, so they
 * are lent to the AZs that take over its traffic.
 */
export const failoverPolicies = ['evacuate', 'absorb'] as const;
export type FailoverPolicyName = (typeof failoverPolicies)[number];

/** What the kernel does when the daemon's heartbeat is stale: hold the table, or let packets pass unsteered. */
export const deadmanPolicies = ['hold', 'pass'] as const;
export type DeadmanPolicy = (typeof deadmanPolicies)[number];

export interface FailoverConfig {
  readonly policy: FailoverPolicyName;
  /** Least part of all queues that must stay usable, 0 to 1. */
  readonly panicShare: number;
  /** After so long a planned move is made although its order is not sure; at least 1. */
  readonly moveDeadlineMs: number;
  readonly deadman: DeadmanPolicy;
  /** A heartbeat older than this is stale. */
  readonly deadmanMs: number;
  readonly rebalance: RebalanceConfig;
  /** What one queue can take, packets/s; null: not known, so no breach can be told. */
  readonly queueCapacityPps: number | null;
}

export interface RebalanceConfig {
  /** Whether the daemon rebalances by itself. */
  readonly auto: boolean;
  /** Nothing is moved while the most loaded queue has at most this many times its fair load. */
  readonly threshold: number;
  /** What is aimed at. */
  readonly maxOverMean: number;
  /** By this much the largest ratio must fall, or nothing is moved. */
  readonly minGain: number;
  readonly coolDownMs: number;
}

export const failoverDefaults: FailoverConfig = {
  policy: 'evacuate',
  panicShare: 0.25,
  moveDeadlineMs: 2000,
  deadman: 'hold',
  deadmanMs: 3000,
  rebalance: { auto: false, threshold: 1.15, maxOverMean: 1.05, minGain: 0.05, coolDownMs: 60_000 },
  queueCapacityPps: null,
};
