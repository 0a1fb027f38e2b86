// SPDX-License-Identifier: Apache-2.0
/** What is measured of the machine and not of one device: plain data. */
import type { PerfCount } from '../perf/counters.ts';
import type { SoftirqTime, TracepointName } from '../traces/model.ts';
import type { FleetSample } from './fleet.ts';
import type { Part } from './part.ts';

export interface MachineSample {
  perf: PerfCount[];
  tracepoints: { name: TracepointName; unavailable: string | null }[];
  /** Of soft interrupts NET_RX. */
  softirqs: Part<SoftirqTime[]>;
  /** Null: the machine belongs to no fleet. */
  fleet: FleetSample | null;
}

/** Where nobody measures. */
export const unmeasuredMachine: MachineSample = {
  perf: [],
  tracepoints: [],
  softirqs: [],
  fleet: null,
};
