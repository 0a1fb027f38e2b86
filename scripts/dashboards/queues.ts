// SPDX-License-Identifier: Apache-2.0
import { makeDashboard } from './make.ts';
import { bars, heatmapOfBuckets, heatmapOfSeries, lines, of, padded, rate, states } from './panels.ts';

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
          lines({
            title: 'Delay of interrupts',
            description: 'Allowed by the load; 0 is as it was before. A change is a step of it.',
            queries: [
              { expr: of('virtio_nic_coalesce_delay_seconds'), legend: '{{device}}' },
              { expr: rate(of('virtio_nic_coalesce_changes_total')), legend: '{{device}} changes a second' },
            ],
            unit: 's',
            noValue: 'adaptive_coalesce is off',
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
        title: 'Where packets arrive',
        panels: [
          lines({
            title: 'On their own queue',
            description:
              'Share of the steered packets that the device had put on their own NIC queue, and of those that were passed there without a hop to another CPU.',
            queries: [
              {
                expr: `1 - sum by (device) (${rate(of('virtio_nic_steering_misses_total'))}) / sum by (device) (${rate(of('virtio_nic_steered_packets_total'))})`,
                legend: '{{device}} arrived on it',
              },
              {
                expr: `sum by (device) (${rate(of('virtio_nic_off_cpu_packets_total'))}) / sum by (device) (${rate(of('virtio_nic_steered_packets_total'))})`,
                legend: '{{device}} arrived on it, not on its CPU',
              },
              {
                expr: `sum by (device) (${rate(of('virtio_nic_direct_packets_total'))}) / sum by (device) (${rate(of('virtio_nic_steered_packets_total'))})`,
                legend: '{{device}} passed there',
              },
            ],
            unit: 'percentunit',
            min: 0,
            max: 1,
            width: 8,
          }),
          states({
            title: 'Redirect mode',
            description: 'How packets come to the CPU of their queue.',
            queries: [{ expr: `${of('virtio_nic_redirect_mode')} == 1`, legend: '{{device}} {{mode}}' }],
            texts: { up: 'in use', down: '-' },
            width: 8,
          }),
          lines({
            title: 'Flows that the device puts where it should',
            description: 'In the redirect modes rss and follow, and while one of them is on trial.',
            queries: [{ expr: of('virtio_nic_redirect_obeyed_ratio'), legend: '{{device}}' }],
            unit: 'percentunit',
            min: 0,
            max: 1,
            noValue: 'nothing is asked of the device, or too few flows tell',
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
          lines({
            title: 'Latency to the socket (µs)',
            description: 'From XDP entry to the queue of the socket, by protocol, of a sample of the packets.',
            queries: [
              {
                expr: `1e6 * histogram_quantile(0.5, sum by (device, proto, le) (${rate(of('virtio_nic_socket_latency_seconds_bucket'))}))`,
                legend: '{{device}} {{proto}} p50',
              },
              {
                expr: `1e6 * histogram_quantile(0.99, sum by (device, proto, le) (${rate(of('virtio_nic_socket_latency_seconds_bucket'))}))`,
                legend: '{{device}} {{proto}} p99',
              },
            ],
            unit: 'µs',
            noValue: 'daemon.telemetry.socket_latency is off, or no packet has a socket',
            width: 24,
          }),
        ],
      },
    ],
  });
