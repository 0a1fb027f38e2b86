// SPDX-License-Identifier: Apache-2.0
import { makeDashboard } from './make.ts';
import { lines, number, of, rate, states } from './panels.ts';

/** Which AZs are in use over time; the overview has it too. */
export const azStates = (width: number) =>
  states({
    title: 'AZs',
    description: 'Whether the AZ is in use.',
    queries: [{ expr: of('virtio_nic_az_up'), legend: '{{device}} {{az}}' }],
    texts: { up: 'up', down: 'failed' },
    noValue: 'no AZs',
    width,
  });

export const azs = () =>
  makeDashboard({
    name: 'azs',
    title: 'AZs and failover',
    description: 'Which AZs are in use, when devices were switched away from one, and what that moved.',
    rows: [
      {
        title: 'State',
        panels: [
          azStates(24),
          lines({
            title: 'Queues of each AZ in use',
            description: 'Queues of the AZ that the steering table uses.',
            queries: [{ expr: of('virtio_nic_az_queues'), legend: '{{device}} {{az}}' }],
            noValue: 'steering is off',
            stacked: true,
            width: 12,
          }),
          lines({
            title: 'Packets meanwhile',
            description: 'Arriving packets, and those that were steered.',
            queries: [
              { expr: `sum by (device) (${rate(of('virtio_nic_rx_packets_total'))})`, legend: '{{device}} arriving' },
              {
                expr: `sum by (device) (${rate(of('virtio_nic_steered_packets_total'))})`,
                legend: '{{device}} steered',
              },
            ],
            unit: 'pps',
            width: 12,
          }),
        ],
      },
      {
        title: 'Round-trip times of TCP',
        panels: [
          lines({
            title: 'Round-trip time, p50 and p99 (ms)',
            description:
              'To each AZ, measured in passing: from a packet that leaves with a timestamp to its echo. Without a name: to peers of no AZ that is known.',
            queries: [0.5, 0.99].map((quantile) => ({
              expr: `1e3 * histogram_quantile(${quantile}, sum by (device, az, le) (${rate(of('virtio_nic_rtt_seconds_bucket'))}))`,
              legend: `{{device}} {{az}} p${100 * quantile}`,
            })),
            unit: 'ms',
            noValue: 'no TCP packet was answered',
            width: 16,
          }),
          lines({
            title: 'Answers timed',
            description: 'Round-trip times measured each second: a sample of the traffic.',
            queries: [
              {
                expr: `sum by (device, az) (${rate(of('virtio_nic_rtt_seconds_count'))})`,
                legend: '{{device}} {{az}}',
              },
            ],
            width: 8,
          }),
        ],
      },
      {
        title: 'Failovers',
        panels: [
          number({
            title: 'Failovers in the range',
            description: 'Failures of AZs that devices were switched away from.',
            queries: [{ expr: `sum(increase(${of('virtio_nic_failovers_total')}[$__range]))`, legend: 'failovers' }],
            noValue: 'no AZs',
            decimals: 0,
            thresholds: [{ from: 1, color: 'orange' }],
            width: 6,
          }),
          number({
            title: 'Last switch (µs)',
            description: 'Time that the switch of the steering table took at the last failover.',
            queries: [{ expr: `1e6 * ${of('virtio_nic_failover_commit_seconds')}`, legend: '{{device}}' }],
            unit: 'µs',
            noValue: 'no failover since the daemon was started',
            width: 6,
          }),
          lines({
            title: 'Failovers by AZ and cause',
            description: 'Since the daemon was started.',
            queries: [{ expr: of('virtio_nic_failovers_total'), legend: '{{device}} {{az}} {{cause}}' }],
            decimals: 0,
            width: 12,
          }),
          lines({
            title: 'Buckets moved',
            description:
              'Buckets of the steering table that went to another queue since the daemon was started. forced: the queue was lost; planned: recovery, a change of AZs, load.',
            queries: [{ expr: of('virtio_nic_buckets_moved_total'), legend: '{{device}} {{kind}}' }],
            decimals: 0,
            width: 24,
          }),
        ],
      },
      {
        title: 'Order',
        panels: [
          lines({
            title: 'Flows moved',
            description:
              'in order: the former queue held nothing of the flow any more; forced: it was lost; at risk: it is usable, and could still hold packets of the flow.',
            queries: [
              { expr: rate(of('virtio_nic_flow_moves_in_order_total')), legend: '{{device}} in order' },
              { expr: rate(of('virtio_nic_flow_moves_forced_total')), legend: '{{device}} forced' },
              { expr: rate(of('virtio_nic_reorder_risk_moves_total')), legend: '{{device}} at risk' },
            ],
            width: 12,
          }),
          lines({
            title: 'Packets held to their former queue',
            description: 'Packets that went to the queue that their flow is about to leave, to keep their order.',
            queries: [{ expr: rate(of('virtio_nic_held_packets_total')), legend: '{{device}} held' }],
            unit: 'pps',
            width: 12,
          }),
        ],
      },
    ],
  });
