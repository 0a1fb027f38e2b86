// SPDX-License-Identifier: Apache-2.0
/** Changes of the steering table, counted by whoever makes them: the kernel does not. Plain data. */

export const failoverCauses = ['manual', 'probe', 'silence', 'bfd', 'deadman', 'fleet'] as const;
export type FailoverCause = (typeof failoverCauses)[number];

/** Forced: the bucket's queue was lost. Planned: recovery, a change of AZs, load. */
export type MoveKind = 'forced' | 'planned';

export interface SwitchCounters {
  failovers: { az: string; cause: FailoverCause; count: number }[];
  bucketsMoved: Record<MoveKind, number>;
  /** From before the store that made the last failover to after it; null before the first. */
  lastFailoverCommitNs: number | null;
}

export function newSwitchCounters(): SwitchCounters {
  return { failovers: [], bucketsMoved: { forced: 0, planned: 0 }, lastFailoverCommitNs: null };
}

export interface Failover {
  az: string;
  cause: FailoverCause;
  /** Buckets that went to other queues, in all rows of the table. */
  bucketsMoved: Record<MoveKind, number>;
  /** Null where it was not measured: the kernel made the store itself. */
  commitNs: number | null;
}

export function countFailover(counters: SwitchCounters, { az, cause, bucketsMoved, commitNs }: Failover): void {
  const known = counters.failovers.find((entry) => entry.az === az && entry.cause === cause);
  if (known === undefined) counters.failovers.push({ az, cause, count: 1 });
  else known.count++;
  counters.bucketsMoved.forced += bucketsMoved.forced;
  counters.bucketsMoved.planned += bucketsMoved.planned;
  if (commitNs !== null) counters.lastFailoverCommitNs = commitNs;
}

export function countPlannedMoves(counters: SwitchCounters, buckets: number): void {
  counters.bucketsMoved.planned += buckets;
}
