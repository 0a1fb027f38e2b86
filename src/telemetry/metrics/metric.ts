// SPDX-License-Identifier: Apache-2.0
/** What a metric is: its facts, its labels and the form of its series. */
import { redirectModes } from '../../steering/redirect.ts';
import type { MachineSample } from './machine.ts';
import type { Part } from './part.ts';
import { ruleVerdicts } from './rule-reader.ts';
import type { DeviceSample } from './sample.ts';
import { failoverCauses } from './switches.ts';

export type MetricType = 'counter' | 'gauge' | 'histogram';
export type LabelName = keyof typeof labelMeanings;
export type Labels = Readonly<Partial<Record<LabelName, string>>>;

export interface HistogramValue {
  /** Cumulative, ascending. `count` stands for the bucket without an upper edge. */
  buckets: readonly { le: number; count: bigint }[];
  sum: number;
  count: bigint;
}

export interface Series {
  labels: Labels;
  value: number | bigint | HistogramValue;
}

interface MetricFacts {
  readonly name: string;
  readonly help: string;
  readonly type: MetricType;
  readonly unit: 'packets' | 'bytes' | 'seconds' | 'ns' | null;
  /** Without `device`, which every metric of a device has and no other. */
  readonly labels: readonly LabelName[];
}

/** What went wrong outside the kernel while metrics were made. */
export interface ExpositionErrors {
  /** Metrics that could not be made of a sample. */
  malformed: number;
}

export interface DeviceMetric extends MetricFacts {
  readonly series: (sample: DeviceSample, errors: ExpositionErrors) => Part<readonly Series[]>;
}

export interface DaemonMetric extends MetricFacts {
  readonly series: (daemon: { version: string; machine: MachineSample }) => Part<readonly Series[]>;
}

/** For the reference page. */
export const labelMeanings = {
  device: 'the device, with its network namespace if it has one',
  queue: 'queue number from 0; in `queue_depth` all queues that the CPU serves, as a list',
  cpu: 'CPU number',
  node: 'NUMA node',
  reason: 'why; see the lists below',
  rule: 'rule id, or `other`: the sum of all rules that have no series of their own',
  verdict: `${ruleVerdicts.map((verdict) => `\`${verdict}\``).join(', ')} (would have been dropped, and passed)`,
  az: 'name of the AZ; empty in `rtt_seconds`: of no AZ that is known',
  proto: '`tcp`: segments of established connections; `udp`',
  cause: failoverCauses.map((cause) => `\`${cause}\``).join(', '),
  kind: '`forced`: the queue was lost; `planned`: recovery, a change of AZs, load',
  rank: '1 is the largest flow; which flow that is changes',
  program: 'name of the BPF program',
  part: 'of the sample',
  version: 'of vnicctl',
  mode: `${redirectModes.map((mode) => `\`${mode}\``).join(', ')}`,
  action: 'what the program answered: an XDP action, or `unknown`',
  event: 'name of a perf event or of a tracepoint',
} as const;
