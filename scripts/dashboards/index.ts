// SPDX-License-Identifier: Apache-2.0
/** All dashboards, and the expressions in them. */
import type { Dashboard } from '@grafana/grafana-foundation-sdk/dashboard';
import { azs } from './azs.ts';
import { fleet } from './fleet.ts';
import { flows } from './flows.ts';
import { host } from './host.ts';
import { overview } from './overview.ts';
import { perf } from './perf.ts';
import { queues } from './queues.ts';
import { rules } from './rules.ts';

const makers = { overview, queues, azs, rules, flows, host, perf, fleet };

/** By file name below dashboards/. */
export function dashboards(): Map<string, Dashboard> {
  return new Map(Object.entries(makers).map(([name, make]) => [`${name}.json`, make()]));
}

const HARDWARE = 'only where the machine has hardware counters';
const TRACED = 'only with daemon.telemetry.tracepoints: all';
const IN_FLEET = 'only on a node of a fleet';
const BY_DRIVER = 'only where the driver counts by queue what XDP drops';

/**
 * Metrics that may have no series on a machine where all is well, with the reason. Everything else that a dashboard or a
 * rule names has to be there as soon as a device is attached and carries traffic.
 */
export const conditionalMetrics: Readonly<Record<string, string>> = {
  virtio_nic_failover_commit_seconds: 'only after a failover that the daemon made',
  virtio_nic_socket_latency_seconds_bucket:
    'only with daemon.telemetry.socket_latency: true, and numbers only with packets that have a socket',
  virtio_nic_rtt_seconds_bucket: 'only with rtt_sample above 0, and numbers only with TCP traffic in both directions',
  virtio_nic_rtt_seconds_count: 'only with rtt_sample above 0',
  virtio_nic_program_runs_total: 'only while the kernel counts runs of BPF programs',
  virtio_nic_program_run_seconds_total: 'only while the kernel counts runs of BPF programs',
  'program:virtio_nic_program_run_seconds:mean1m': 'only while the kernel counts runs of BPF programs',
  virtio_nic_perf_cycles_total: HARDWARE,
  virtio_nic_perf_instructions_total: HARDWARE,
  virtio_nic_perf_cache_references_total: HARDWARE,
  virtio_nic_perf_cache_misses_total: HARDWARE,
  'instance:virtio_nic_cycles:per_packet_rate1m': HARDWARE,
  'instance:virtio_nic_instructions:per_packet_rate1m': HARDWARE,
  'instance:virtio_nic_cache_misses:per_packet_rate1m': HARDWARE,
  virtio_nic_cpumap_enqueued_packets_total: TRACED,
  virtio_nic_cpumap_rounds_total: TRACED,
  virtio_nic_cpumap_sleeps_total: TRACED,
  virtio_nic_napi_polls_total: TRACED,
  virtio_nic_napi_polled_packets_total: TRACED,
  virtio_nic_napi_budget_exhausted_total: TRACED,
  virtio_nic_softirq_seconds_total: TRACED,
  virtio_nic_softirq_runs_total: TRACED,
  virtio_nic_redirect_obeyed_ratio: 'only where a redirect mode asks something of the device, and enough flows tell',
  virtio_nic_driver_drops_total: BY_DRIVER,
  virtio_nic_unexplained_drops_total: BY_DRIVER,
  'device:virtio_nic_unexplained_drops:rate1m': BY_DRIVER,
  virtio_nic_fleet_connected: IN_FLEET,
  virtio_nic_fleet_spec_revision: IN_FLEET,
  virtio_nic_fleet_applied_revision: IN_FLEET,
  virtio_nic_fleet_canary: IN_FLEET,
  virtio_nic_fleet_drift: IN_FLEET,
  virtio_nic_fleet_problems: IN_FLEET,
  virtio_nic_fleet_last_sync_age_seconds: IN_FLEET,
};
