// SPDX-License-Identifier: Apache-2.0
import { makeDashboard } from './make.ts';
import { lines, number, of, ofDaemon, rate } from './panels.ts';

const NO_RUNS = 'the kernel does not count runs: sysctl kernel.bpf_stats_enabled=1';

export const host = () =>
  makeDashboard({
    name: 'host',
    title: 'Host',
    description: 'What the daemon and the BPF programs cost, NUMA nodes, and packets without a flow.',
    rows: [
      {
        title: 'Daemon',
        panels: [
          number({
            title: 'Daemons',
            description: 'Version of each daemon.',
            queries: [{ expr: `count by (version) (${ofDaemon('virtio_nic_build_info')})`, legend: '{{version}}' }],
            width: 6,
          }),
          number({
            title: 'Running for',
            description: 'Since the process was started.',
            queries: [{ expr: `time() - ${ofDaemon('process_start_time_seconds')}`, legend: '{{instance}}' }],
            unit: 's',
            width: 6,
          }),
          number({
            title: 'Reading the counters (µs)',
            description: 'Time that reading the counters of the device took at the last scrape.',
            queries: [{ expr: `1e6 * ${of('virtio_nic_scrape_seconds')}`, legend: '{{device}}' }],
            unit: 'µs',
            thresholds: [{ from: 5000, color: 'red' }],
            width: 6,
          }),
          number({
            title: 'Parts that could not be read',
            description: 'In the range. Their metrics are missing.',
            queries: [{ expr: `sum(increase(${of('virtio_nic_decode_errors_total')}[$__range]))`, legend: 'errors' }],
            thresholds: [{ from: 1, color: 'red' }],
            width: 6,
          }),
          lines({
            title: 'CPU of the daemon',
            description: '100 % is one core.',
            queries: [{ expr: rate(ofDaemon('process_cpu_seconds_total')), legend: '{{instance}}' }],
            unit: 'percentunit',
            width: 8,
          }),
          lines({
            title: 'Memory of the daemon',
            description: 'Resident, with the mapped counters.',
            queries: [{ expr: ofDaemon('process_resident_memory_bytes'), legend: '{{instance}}' }],
            unit: 'bytes',
            width: 8,
          }),
          lines({
            title: 'Scrapes',
            description: 'Whole scrapes as Prometheus saw them, and how late the event loop was.',
            queries: [
              { expr: ofDaemon('scrape_duration_seconds'), legend: '{{instance}} scrape' },
              { expr: ofDaemon('nodejs_eventloop_lag_p99_seconds'), legend: '{{instance}} event loop p99' },
            ],
            unit: 's',
            width: 8,
          }),
        ],
      },
      {
        title: 'BPF programs',
        panels: [
          lines({
            title: 'Time for a run',
            description: 'Mean over the last minute; programs reached by a tail call count with the one that called.',
            queries: [{ expr: of('program:virtio_nic_program_run_seconds:mean1m'), legend: '{{device}} {{program}}' }],
            unit: 's',
            noValue: NO_RUNS,
            width: 8,
          }),
          lines({
            title: 'Runs',
            description: 'A second.',
            queries: [{ expr: rate(of('virtio_nic_program_runs_total')), legend: '{{device}} {{program}}' }],
            unit: 'ops',
            noValue: NO_RUNS,
            width: 8,
          }),
          lines({
            title: 'CPU of the programs',
            description: '100 % is one core.',
            queries: [{ expr: rate(of('virtio_nic_program_run_seconds_total')), legend: '{{device}} {{program}}' }],
            unit: 'percentunit',
            noValue: NO_RUNS,
            width: 8,
          }),
        ],
      },
      {
        title: 'NUMA and packets',
        panels: [
          lines({
            title: 'Packets by NUMA node',
            description: 'Steered to queues whose CPU is on the node.',
            queries: [{ expr: rate(of('virtio_nic_numa_packets_total')), legend: '{{device}} node {{node}}' }],
            unit: 'pps',
            noValue: 'the nodes of the CPUs are not known',
            stacked: true,
            width: 8,
          }),
          lines({
            title: 'Packets without a flow',
            description: 'By reason; they are passed.',
            queries: [
              {
                expr: `sum by (device, reason) (${rate(of('virtio_nic_unparsed_packets_total'))})`,
                legend: '{{device}} {{reason}}',
              },
            ],
            unit: 'pps',
            stacked: true,
            width: 8,
          }),
          lines({
            title: 'Ways of packets',
            description:
              'Parsed, handed to the CPU of their queue, and those to which the driver let no metadata be added.',
            queries: [
              { expr: rate(of('virtio_nic_parsed_packets_total')), legend: '{{device}} parsed' },
              { expr: rate(of('virtio_nic_redirected_packets_total')), legend: '{{device}} redirected' },
              { expr: rate(of('virtio_nic_metadata_failed_total')), legend: '{{device}} without metadata' },
            ],
            unit: 'pps',
            width: 8,
          }),
        ],
      },
    ],
  });
