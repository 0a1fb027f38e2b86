// SPDX-License-Identifier: Apache-2.0
/** What can be known of an attached device, and what a change of it did: plain data. */

import type { AzConfig } from '../steering/azs.ts';
import type { StateChange } from '../steering/plan-az.ts';
import type { RuleChanges } from '../steering/rules/changes.ts';
import type { RuleWarning } from '../steering/rules/validate.ts';
import { noQueue } from '../steering/table.ts';
import type { DataplaneCounters, LatencySummary } from '../telemetry/counters.ts';
import type { FailoverCause } from '../telemetry/metrics/switches.ts';
import type { AzWatchStatus } from './az-watch-status.ts';
import type { Drift } from './drift.ts';
import type { EgressHook, FailedAz } from './record.ts';
import type { RedirectStatus } from './redirecting.ts';
import type { CoalescingStatus } from './tuning/auto-coalescing.ts';

export interface RuleCounters {
  packets: number;
  bytes: number;
  droppedPackets: number;
  droppedBytes: number;
}

export interface AzStatus {
  name: string;
  state: 'up' | 'failed';
  cause: FailoverCause | null;
  since: string | null;
  /** What it was found dead by; null where it is up or was failed by hand. */
  evidence: string | null;
  /** What the kernel's watch sees of it; null where it does not watch it. */
  watch: AzWatchStatus | null;
  weight: number;
  queues: readonly number[];
  config: AzConfig;
}

export interface AzFailure {
  /** Also when few queues would be left. */
  force?: boolean;
  /** Default `manual`. */
  cause?: FailedAz['cause'];
  /** What it was found dead by. */
  evidence?: string;
  now?: Date;
}

export interface SteeringRow {
  row: number;
  az: string | null;
  /** By bucket. */
  queues: (number | null)[];
}

export interface AzChange {
  az: string;
  plan: StateChange['plan'];
  commitNs: number | null;
}

/** A rule set's change, and what the new set is warned of. */
export interface RuleSetChange extends RuleChanges {
  warnings: RuleWarning[];
}

export interface DeviceStatus {
  device: string;
  mode: 'native' | 'generic';
  egress: EgressHook;
  queues: number;
  redirect: RedirectStatus;
  ifindex: number;
  activeTable: number | null;
  ruleGeneration: number;
  rules: number;
  azs: AzStatus[];
  counters: DataplaneCounters;
  latency: LatencySummary;
  drift: Drift[];
  /** State files of the device that could not be read and were kept aside. */
  /** Null: no daemon adapts it. */
  coalescing: CoalescingStatus | null;
  damagedFiles: string[];
}

/** @param watches by position in `azs`; absent: not looked at */
export function azStatuses(
  azs: readonly AzConfig[],
  failedAzs: readonly FailedAz[],
  watches: readonly (AzWatchStatus | null)[] = [],
): AzStatus[] {
  return azs.map((config, index) => {
    const failed = failedAzs.find((az) => az.name === config.name);
    return {
      name: config.name,
      state: failed === undefined ? 'up' : 'failed',
      cause: failed?.cause ?? null,
      since: failed?.since ?? null,
      evidence: failed?.evidence ?? null,
      watch: watches[index] ?? null,
      weight: config.weight,
      queues: config.queues,
      config,
    };
  });
}

/** @param azNames name of each row's AZ; rows beyond are not in use */
export function steeringRows(rows: readonly Uint16Array[], azNames: readonly (string | null)[]): SteeringRow[] {
  return azNames.map((az, row) => ({
    row,
    az,
    queues: Array.from(rows[row] ?? [], (queue) => (queue === noQueue ? null : queue)),
  }));
}
