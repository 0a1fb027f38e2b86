// SPDX-License-Identifier: Apache-2.0
import { makeDashboard } from './make.ts';
import { bars, lines, number, of, ofDaemon, rate } from './panels.ts';

const NO_HARDWARE =
  'no hardware counters here, as is usual in virtual machines; the panel about what is counted, and /api/v1/metrics, say why';
const NOT_TRACED = 'counted with daemon.telemetry.tracepoints: all';

export const perf = () =>
  makeDashboard({
    name: 'perf',
    title: 'Perf',
    description: 'What packets cost the machine, and what happens to them outside of the BPF programs.',
    rows: [
      {
        title: 'For each packet',
        panels: [
          lines({
            title: 'Cache misses per packet',
            description:
              'Accesses that the last-level cache could not serve, of all CPUs whatever ran on them, by received packets. Compare two ways to run with it.',
            queries: [{ expr: ofDaemon('instance:virtio_nic_cache_misses:per_packet_rate1m'), legend: '{{instance}}' }],
            noValue: NO_HARDWARE,
            decimals: 2,
            width: 8,
          }),
          lines({
            title: 'Cycles and instructions per packet',
            description: 'Of all CPUs, whatever ran on them, by received packets.',
            queries: [
              { expr: ofDaemon('instance:virtio_nic_cycles:per_packet_rate1m'), legend: '{{instance}} cycles' },
              {
                expr: ofDaemon('instance:virtio_nic_instructions:per_packet_rate1m'),
                legend: '{{instance}} instructions',
              },
            ],
            noValue: NO_HARDWARE,
            width: 8,
          }),
          lines({
            title: 'Cache misses of cache references',
            description: 'Share of the accesses to the last-level cache that it could not serve.',
            queries: [
              {
                expr: `sum without (cpu) (${rate(ofDaemon('virtio_nic_perf_cache_misses_total'))}) / sum without (cpu) (${rate(ofDaemon('virtio_nic_perf_cache_references_total'))})`,
                legend: '{{instance}}',
              },
            ],
            unit: 'percentunit',
            noValue: NO_HARDWARE,
            width: 8,
          }),
        ],
      },
      {
        title: 'CPUs',
        panels: [
          lines({
            title: 'Cycles by CPU',
            description: 'A second.',
            queries: [{ expr: rate(ofDaemon('virtio_nic_perf_cycles_total')), legend: '{{instance}} CPU {{cpu}}' }],
            unit: 'hertz',
            noValue: NO_HARDWARE,
            width: 8,
          }),
          lines({
            title: 'Instructions per cycle',
            description: 'Low where a CPU waits for memory.',
            queries: [
              {
                expr: `${rate(ofDaemon('virtio_nic_perf_instructions_total'))} / ${rate(ofDaemon('virtio_nic_perf_cycles_total'))}`,
                legend: '{{instance}} CPU {{cpu}}',
              },
            ],
            noValue: NO_HARDWARE,
            width: 8,
          }),
          lines({
            title: 'Context switches by CPU',
            description: 'A second.',
            queries: [
              { expr: rate(ofDaemon('virtio_nic_perf_context_switches_total')), legend: '{{instance}} CPU {{cpu}}' },
            ],
            unit: 'ops',
            width: 8,
          }),
          lines({
            title: 'Tasks that changed their CPU',
            description: 'A second, by the CPU that they came to.',
            queries: [
              { expr: rate(ofDaemon('virtio_nic_perf_cpu_migrations_total')), legend: '{{instance}} CPU {{cpu}}' },
            ],
            unit: 'ops',
            width: 8,
          }),
          lines({
            title: 'Soft interrupts for received packets',
            description: 'Share of the time of each CPU, for all devices.',
            queries: [{ expr: rate(ofDaemon('virtio_nic_softirq_seconds_total')), legend: '{{instance}} CPU {{cpu}}' }],
            unit: 'percentunit',
            noValue: NOT_TRACED,
            width: 8,
          }),
          lines({
            title: 'Runs of these soft interrupts',
            description: 'A second.',
            queries: [{ expr: rate(ofDaemon('virtio_nic_softirq_runs_total')), legend: '{{instance}} CPU {{cpu}}' }],
            unit: 'ops',
            noValue: NOT_TRACED,
            width: 8,
          }),
        ],
      },
      {
        title: 'On the way',
        panels: [
          lines({
            title: 'Dropped on the way to a CPU',
            description: 'Handed to the CPU of their queue: its ring was full, or its thread got no memory.',
            queries: [
              {
                expr: rate(of('virtio_nic_cpumap_drops_total')),
                legend: '{{device}} CPU {{cpu}} {{reason}}',
              },
            ],
            unit: 'pps',
            width: 8,
          }),
          lines({
            title: 'Errors of XDP',
            description:
              'Packets that could not be redirected, and those for which the kernel could not do what the program answered.',
            queries: [
              { expr: rate(of('virtio_nic_redirect_errors_total')), legend: '{{device}} redirect: {{reason}}' },
              { expr: rate(of('virtio_nic_xdp_exceptions_total')), legend: '{{device}} exception: {{action}}' },
            ],
            unit: 'pps',
            width: 8,
          }),
          lines({
            title: 'Drops that no rule explains',
            description:
              'What the driver says that XDP dropped, and of it what no rule and no limit did: frames that no program sees, such as those whose segmentation or checksum was left to the receiver.',
            queries: [
              {
                expr: `sum without (queue) (${rate(of('virtio_nic_driver_drops_total'))})`,
                legend: '{{device}} all of the driver',
              },
              { expr: of('device:virtio_nic_unexplained_drops:rate1m'), legend: '{{device}} unexplained' },
            ],
            unit: 'pps',
            noValue: 'the driver does not count by queue what XDP drops',
            width: 8,
          }),
          lines({
            title: 'Packets per poll',
            description: 'A full budget, which is 64 mostly, says that more was waiting.',
            queries: [
              {
                expr: `${rate(of('virtio_nic_napi_polled_packets_total'))} / ${rate(of('virtio_nic_napi_polls_total'))}`,
                legend: '{{device}}',
              },
            ],
            noValue: NOT_TRACED,
            width: 8,
          }),
          lines({
            title: 'Polls that used their budget',
            description: 'Share of the polls.',
            queries: [
              {
                expr: `${rate(of('virtio_nic_napi_budget_exhausted_total'))} / ${rate(of('virtio_nic_napi_polls_total'))}`,
                legend: '{{device}}',
              },
            ],
            unit: 'percentunit',
            noValue: NOT_TRACED,
            width: 8,
          }),
          lines({
            title: 'Packets per batch of a CPU',
            description: 'How many the thread of a CPU took at a time, and the share of times before which it slept.',
            queries: [
              {
                expr: `${rate(of('virtio_nic_cpumap_enqueued_packets_total'))} / ${rate(of('virtio_nic_cpumap_rounds_total'))}`,
                legend: '{{device}} CPU {{cpu}} packets',
              },
              {
                expr: `${rate(of('virtio_nic_cpumap_sleeps_total'))} / ${rate(of('virtio_nic_cpumap_rounds_total'))}`,
                legend: '{{device}} CPU {{cpu}} slept',
              },
            ],
            noValue: NOT_TRACED,
            width: 8,
          }),
        ],
      },
      {
        title: 'What is counted',
        panels: [
          bars({
            title: 'What is counted here',
            description: '1: counted; 0: not available, and /api/v1/metrics says why.',
            queries: [{ expr: ofDaemon('virtio_nic_perf_available'), legend: '{{instance}} {{event}}' }],
            max: 1,
            width: 12,
            height: 10,
          }),
          number({
            title: 'Share of the time in which it was counted',
            description: 'Below 100 %, values are extrapolated, because events had to share a hardware counter.',
            queries: [{ expr: ofDaemon('virtio_nic_perf_counted_ratio'), legend: '{{instance}} {{event}}' }],
            unit: 'percentunit',
            width: 12,
            height: 10,
          }),
        ],
      },
    ],
  });
