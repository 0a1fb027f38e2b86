// SPDX-License-Identifier: Apache-2.0
/** Availability zones as configured. */
import type { Prefix } from './rules/prefix.ts';

export interface AzConfig {
  /** Stands in paths and labels: letters, digits, dot, hyphen, underscore. */
  readonly name: string;
  /** Ascending, at least one; no queue belongs to two AZs. */
  readonly queues: readonly number[];
  /** Above 0; queues share the traffic that belongs to no AZ in proportion to it. */
  readonly weight: number;
  /** Remote addresses of the AZ; no two AZs overlap. */
  readonly prefixes: readonly Prefix[];
  readonly probe?: AzProbe;
  /** Passive detection: the AZ counts as lost when its queues were silent for so long. Absent: not used. */
  readonly silenceMs?: number;
}

export interface AzProbe {
  readonly type: 'tcp';
  /** Canonical address text. */
  readonly address: string;
  readonly port: number;
  readonly intervalMs: number;
  /** Failures in a row that take the AZ down. */
  readonly fall: number;
  /** Successes in a row that bring it back. */
  readonly rise: number;
}
