// SPDX-License-Identifier: Apache-2.0
import { makeDashboard } from './make.ts';
import { bars, heatmapOfBuckets, heatmapOfSeries, lines, of, padded, rate } from './panels.ts';

const byQueue = (metric: string): string => `sum by (queue) (${padded(rate(of(metric)), 'queue')})`;

export const queues = () =>
  makeDashboard({
    name: 'queues',
    title: 'Queues',
    description: 'How packets are spread over queues and CPUs, and how long they take.',
    rows: [
      {
        title: 'By queue',
        panels: [
          heatmapOfSeries({
            title: 'Steered packets by queue',
            description: 'Arrived packets that the steering table or a rule gave to the queue, a second.',
            queries: [{ expr: byQueue('virtio_nic_steered_packets_total'), legend: '{{queue}}' }],
            unit: 'pps',
            width: 24,
            height: 14,
          }),
          heatmapOfSeries({
            title: 'Arriving packets by NIC queue',
            description: 'As the NIC distributed them, before steering.',
            queries: [{ expr: byQueue('virtio_nic_rx_packets_total'), legend: '{{queue}}' }],
            unit: 'pps',
            width: 12,
            height: 12,
          }),
          heatmapOfSeries({
            title: 'Leaving packets by TX queue',
            description: 'Packets sent to the TX queue by the steering table or a rule.',
            queries: [{ expr: byQueue('virtio_nic_tx_packets_total'), legend: '{{queue}}' }],
            unit: 'pps',
            width: 12,
            height: 12,
          }),
        ],
      },
      {
        title: 'Balance',
        panels: [
          lines({
            title: 'Busiest queue over the mean',
            description: '1 is even. Queues of an AZ without traffic count as queues.',
            queries: [{ expr: of('device:virtio_nic_queue_imbalance:ratio_rate1m'), legend: '{{device}}' }],
            thresholds: [{ from: 4, color: 'red' }],
            width: 8,
          }),
          bars({
            title: 'Share of each queue',
            description: 'Of the packets steered within the last minute.',
            queries: [
              {
                expr: `sum by (queue) (${padded(`rate(${of('virtio_nic_steered_packets_total')}[1m])`, 'queue')}) / scalar(sum(rate(${of('virtio_nic_steered_packets_total')}[1m])))`,
                legend: '{{queue}}',
              },
            ],
            unit: 'percentunit',
            noValue: 'no packets',
            width: 8,
          }),
          lines({
            title: 'Not steered',
            description:
              'Parsed packets left to the CPU on which they arrived, and packets that left without a queue from the steering table.',
            queries: [
              { expr: rate(of('virtio_nic_passed_packets_total')), legend: '{{device}} passed' },
              { expr: rate(of('virtio_nic_tx_unsteered_packets_total')), legend: '{{device}} left unsteered' },
            ],
            unit: 'pps',
            width: 8,
          }),
        ],
      },
      {
        title: 'CPUs and latency',
        panels: [
          lines({
            title: 'Waiting for a CPU',
            description:
              'Packets handed to a CPU and not taken by it. What its full ring dropped stays in here: a steady value without traffic is loss.',
            queries: [
              { expr: of('cpu:virtio_nic_queue_depth:max1m'), legend: '{{device}} CPU {{cpu}} most' },
              { expr: of('cpu:virtio_nic_queue_depth:min1m'), legend: '{{device}} CPU {{cpu}} least' },
            ],
            unit: 'short',
            width: 8,
          }),
          lines({
            title: 'Latency (µs)',
            description: 'From XDP entry to the CPU of the queue, over the last minute.',
            queries: [
              {
                expr: `1e6 * ${of('device:virtio_nic_latency_seconds:quantile1m')}`,
                legend: '{{device}} quantile {{quantile}}',
              },
            ],
            unit: 'µs',
            width: 8,
          }),
          heatmapOfBuckets({
            title: 'Latency, all packets of the sample',
            description: 'From XDP entry to the CPU of the queue.',
            queries: [
              {
                expr: `sum by (le) (increase(${of('virtio_nic_latency_seconds_bucket')}[$__rate_interval]))`,
                legend: '{{le}}',
              },
            ],
            width: 8,
          }),
        ],
      },
    ],
  });
