// SPDX-License-Identifier: Apache-2.0
/** The part of the catalogue that the kernel's own instruments give: perf events, tracepoints, driver statistics. */
import { declare, PREFIX } from './declare.ts';
import type { DaemonMetric } from './metric.ts';
import {
  cpumapDrops,
  exceptionsByAction,
  perDriverQueue,
  perfAvailable,
  perfCountedShare,
  perfTotal,
  perRing,
  polls,
  redirectErrorsByReason,
  softirqs,
} from './perf-series.ts';

const counter = declare('counter');

export const perfDeviceMetrics = [
  counter(
    'cpumap_drops_total',
    'packets',
    ['cpu', 'reason'],
    'Packets that were handed to the CPU and dropped, because its ring was full or its thread got no memory, since the daemon was started.',
    cpumapDrops,
  ),
  counter(
    'cpumap_enqueued_packets_total',
    'packets',
    ['cpu'],
    'Packets that went into the ring of the CPU, since the daemon was started.',
    perRing('enqueued'),
  ),
  counter(
    'cpumap_rounds_total',
    null,
    ['cpu'],
    'Batches that the thread of the CPU took out of its ring, since the daemon was started.',
    perRing('rounds'),
  ),
  counter(
    'cpumap_sleeps_total',
    null,
    ['cpu'],
    'Batches before which the thread of the CPU had slept, since the daemon was started.',
    perRing('sleeps'),
  ),
  counter(
    'redirect_errors_total',
    'packets',
    ['reason'],
    'Packets of the device that could not be redirected, since the daemon was started.',
    redirectErrorsByReason,
  ),
  counter(
    'xdp_exceptions_total',
    'packets',
    ['action'],
    'Packets of the device for which the kernel could not do what the program answered, since the daemon was started.',
    exceptionsByAction,
  ),
  counter('napi_polls_total', null, [], 'Polls of the device, since the daemon was started.', polls('polls')),
  counter(
    'napi_polled_packets_total',
    'packets',
    [],
    'Packets that polls of the device brought, since the daemon was started.',
    polls('packets'),
  ),
  counter(
    'napi_budget_exhausted_total',
    null,
    [],
    'Polls of the device that used their whole budget, since the daemon was started: more was waiting.',
    polls('exhausted'),
  ),
  counter(
    'driver_drops_total',
    'packets',
    ['queue'],
    'Packets that XDP dropped on the NIC queue, as the driver counts since the device was made.',
    perDriverQueue('driver'),
  ),
  counter(
    'unexplained_drops_total',
    'packets',
    ['queue'],
    'Packets of driver_drops that no rule and no limit dropped, since the daemon opened the device.',
    perDriverQueue('unexplained'),
  ),
];

type Of = Pick<DaemonMetric, 'unit' | 'labels' | 'help' | 'series'>;

const ofMachine = (type: 'counter' | 'gauge', name: string, of: Of): DaemonMetric => ({
  name: PREFIX + name,
  type,
  ...of,
});

export const machineMetrics: readonly DaemonMetric[] = [
  ofMachine('counter', 'perf_cycles_total', {
    unit: null,
    labels: ['cpu'],
    help: 'CPU cycles, of everything that ran on the CPU since the daemon was started.',
    series: perfTotal('cycles'),
  }),
  ofMachine('counter', 'perf_instructions_total', {
    unit: null,
    labels: ['cpu'],
    help: 'Instructions that the CPU completed since the daemon was started.',
    series: perfTotal('instructions'),
  }),
  ofMachine('counter', 'perf_cache_references_total', {
    unit: null,
    labels: ['cpu'],
    help: 'Accesses to the last-level cache since the daemon was started.',
    series: perfTotal('cache_references'),
  }),
  ofMachine('counter', 'perf_cache_misses_total', {
    unit: null,
    labels: ['cpu'],
    help: 'Accesses that the last-level cache could not serve, since the daemon was started.',
    series: perfTotal('cache_misses'),
  }),
  ofMachine('counter', 'perf_context_switches_total', {
    unit: null,
    labels: ['cpu'],
    help: 'Context switches of the CPU since the daemon was started.',
    series: perfTotal('context_switches'),
  }),
  ofMachine('counter', 'perf_cpu_migrations_total', {
    unit: null,
    labels: ['cpu'],
    help: 'Tasks that came to the CPU from another since the daemon was started.',
    series: perfTotal('cpu_migrations'),
  }),
  ofMachine('gauge', 'perf_available', {
    unit: null,
    labels: ['event'],
    help: 'Whether the perf event or the tracepoint is counted; the JSON of the metrics says why one is not.',
    series: perfAvailable,
  }),
  ofMachine('gauge', 'perf_counted_ratio', {
    unit: null,
    labels: ['event'],
    help: 'Share of the time in which the event was counted: below 1 it is extrapolated, as events had to share a hardware counter.',
    series: perfCountedShare,
  }),
  ofMachine('counter', 'softirq_seconds_total', {
    unit: 'seconds',
    labels: ['cpu'],
    help: 'Time that the CPU spent in soft interrupts for received packets, of all devices, since the daemon was started.',
    series: softirqs(({ timeNs }) => Number(timeNs) / 1e9),
  }),
  ofMachine('counter', 'softirq_runs_total', {
    unit: null,
    labels: ['cpu'],
    help: 'Soft interrupts for received packets of the CPU, of all devices, since the daemon was started.',
    series: softirqs(({ runs }) => runs),
  }),
];
