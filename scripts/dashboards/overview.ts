// SPDX-License-Identifier: Apache-2.0
import { azStates } from './azs.ts';
import { makeDashboard } from './make.ts';
import { heatmapOfSeries, lines, number, of, padded, rate } from './panels.ts';

const gbits = (bytes: string): string => `8 * ${bytes} / 1e9`;

export const overview = () =>
  makeDashboard({
    name: 'overview',
    title: 'Overview',
    description: 'Throughput, latency, drops and AZs of all devices.',
    rows: [
      {
        title: 'Now',
        panels: [
          number({
            title: 'Arriving',
            description: 'Whole frames, over the last minute.',
            queries: [{ expr: gbits(`sum(${of('device:virtio_nic_rx_bytes:rate1m')})`), legend: 'Gbit/s' }],
            unit: 'Gbits',
            width: 4,
          }),
          number({
            title: 'Leaving',
            description: 'Of the packets that the steering table or a rule gave a queue, over the last minute.',
            queries: [{ expr: gbits(`sum(${of('device:virtio_nic_tx_bytes:rate1m')})`), legend: 'Gbit/s' }],
            unit: 'Gbits',
            width: 4,
          }),
          number({
            title: 'Packets',
            description: 'Arriving packets, over the last minute.',
            queries: [{ expr: `sum(${of('device:virtio_nic_rx_packets:rate1m')})`, legend: 'packets/s' }],
            unit: 'pps',
            width: 4,
          }),
          number({
            title: 'Dropped',
            description: 'By rules and limits, in both directions, over the last minute.',
            queries: [{ expr: `sum(${of('device:virtio_nic_drops:rate1m')})`, legend: 'packets/s' }],
            unit: 'pps',
            width: 4,
          }),
          number({
            title: 'p99 latency',
            description: 'From XDP entry to the CPU of the queue, of the slowest device.',
            queries: [
              {
                expr: `1e6 * max(${of('device:virtio_nic_latency_seconds:quantile1m', 'quantile="0.99"')})`,
                legend: 'p99',
              },
            ],
            unit: 'µs',
            decimals: 1,
            noValue: 'no packets',
            thresholds: [
              { from: 250, color: 'yellow' },
              { from: 1000, color: 'red' },
            ],
            width: 4,
          }),
          number({
            title: 'Failed AZs',
            description: 'AZs that are not in use.',
            queries: [{ expr: `count(${of('virtio_nic_az_up')}) - sum(${of('virtio_nic_az_up')})`, legend: 'AZs' }],
            noValue: 'no AZs',
            thresholds: [{ from: 1, color: 'red' }],
            width: 4,
          }),
        ],
      },
      {
        title: 'Traffic',
        panels: [
          lines({
            title: 'Throughput (Gbit/s)',
            description: 'Whole frames that arrive, and those sent to a queue of the steering table.',
            queries: [
              {
                expr: gbits(`sum by (device) (${rate(of('virtio_nic_rx_bytes_total'))})`),
                legend: '{{device}} arriving',
              },
              {
                expr: gbits(`sum by (device) (${rate(of('virtio_nic_tx_bytes_total'))})`),
                legend: '{{device}} leaving',
              },
            ],
            unit: 'Gbits',
            width: 12,
          }),
          lines({
            title: 'Latency (µs)',
            description:
              'From XDP entry to the CPU of the queue, of a sample of the packets. The mean is since attach.',
            queries: [
              {
                expr: `1e6 * ${of('device:virtio_nic_latency_seconds:quantile1m', 'quantile=~"0.5|0.99"')}`,
                legend: '{{device}} quantile {{quantile}}',
              },
              { expr: `${of('virtio_nic_avg_latency_ns')} / 1000`, legend: '{{device}} mean' },
            ],
            unit: 'µs',
            width: 12,
          }),
          lines({
            title: 'Packets',
            description: 'Arriving, steered to queues, and leaving.',
            queries: [
              { expr: `sum by (device) (${rate(of('virtio_nic_rx_packets_total'))})`, legend: '{{device}} arriving' },
              {
                expr: `sum by (device) (${rate(of('virtio_nic_steered_packets_total'))})`,
                legend: '{{device}} steered',
              },
              { expr: `sum by (device) (${rate(of('virtio_nic_tx_packets_total'))})`, legend: '{{device}} leaving' },
            ],
            unit: 'pps',
            width: 12,
          }),
          lines({
            title: 'Drops',
            description: 'By a rule, by the limit of a rule, by the limit of a flow.',
            queries: [
              {
                expr: `sum by (device, reason) (${rate(of('virtio_nic_drops_total'))})`,
                legend: '{{device}} {{reason}}',
              },
            ],
            unit: 'pps',
            stacked: true,
            width: 12,
          }),
        ],
      },
      {
        title: 'AZs and queues',
        panels: [
          azStates(12),
          heatmapOfSeries({
            title: 'Packets by queue',
            description: 'Arrived packets that the steering table or a rule gave to the queue, a second.',
            queries: [
              {
                expr: `sum by (queue) (${padded(rate(of('virtio_nic_steered_packets_total')), 'queue')})`,
                legend: '{{queue}}',
              },
            ],
            unit: 'pps',
            width: 12,
          }),
        ],
      },
    ],
  });
