// SPDX-License-Identifier: Apache-2.0
/** All dashboards, and the expressions in them. */
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { azs } from './azs.ts';
import { flows } from './flows.ts';
import { host } from './host.ts';
import { overview } from './overview.ts';
import { queues } from './queues.ts';
import { rules } from './rules.ts';

const makers = { overview, queues, azs, rules, flows, host };

/** By file name below dashboards/. */
export function dashboards(): Map<string, Dashboard> {
  return new Map(Object.entries(makers).map(([name, make]) => [`${name}.json`, make()]));
}

/**
 * Metrics that may have no series on a machine where all is well, with the reason. Everything else that a dashboard or a
 * rule names has to be there as soon as a device is attached and carries traffic.
 */
export const conditionalMetrics: Readonly<Record<string, string>> = {
  virtio_nic_failover_commit_seconds: 'only after a failover that the daemon made',
  virtio_nic_program_runs_total: 'only while the kernel counts runs of BPF programs',
  virtio_nic_program_run_seconds_total: 'only while the kernel counts runs of BPF programs',
  'program:virtio_nic_program_run_seconds:mean1m': 'only while the kernel counts runs of BPF programs',
};
