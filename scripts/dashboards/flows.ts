// SPDX-License-Identifier: Apache-2.0
import { makeDashboard } from './make.ts';
import { bars, lines, of, rate } from './panels.ts';

export const flows = () =>
  makeDashboard({
    name: 'flows',
    title: 'Flows',
    description: 'The flow table and the largest flows. No flow has a name here: vnicctl flows shows them.',
    rows: [
      {
        title: 'Flow table',
        panels: [
          lines({
            title: 'Entries',
            description:
              'Flows in the table. Entries stay until another flow needs the place, so a full table is normal.',
            queries: [{ expr: of('virtio_nic_flow_table_entries'), legend: '{{device}}' }],
            unit: 'short',
            width: 8,
          }),
          lines({
            title: 'New and evicted flows',
            description: 'A second.',
            queries: [
              { expr: rate(of('virtio_nic_flows_created_total')), legend: '{{device}} new' },
              { expr: rate(of('virtio_nic_flows_evicted_total')), legend: '{{device}} evicted' },
            ],
            unit: 'ops',
            width: 8,
          }),
          lines({
            title: 'Part of the table evicted a minute',
            description: 'Above 100 % flows lose their entry within a minute: the table is too small.',
            queries: [
              {
                expr: `60 * ${rate(of('virtio_nic_flows_evicted_total'))} / clamp_min(${of('virtio_nic_flow_table_entries')}, 1)`,
                legend: '{{device}}',
              },
            ],
            unit: 'percentunit',
            thresholds: [{ from: 1, color: 'red' }],
            width: 8,
          }),
          lines({
            title: 'Packets that found no place',
            description: 'They went on without an entry: classified anew each, and not limited by flow.',
            queries: [{ expr: rate(of('virtio_nic_flow_table_busy_total')), legend: '{{device}}' }],
            unit: 'pps',
            width: 12,
          }),
          lines({
            title: 'Flows classified anew',
            description: 'Their cached verdict was of an older rule set.',
            queries: [{ expr: rate(of('virtio_nic_flows_reclassified_total')), legend: '{{device}}' }],
            unit: 'ops',
            width: 12,
          }),
        ],
      },
      {
        title: 'Largest flows',
        panels: [
          bars({
            title: 'Bytes of the largest flows',
            description: 'Rank 1 is the largest flow of the device; which flow that is changes.',
            queries: [{ expr: of('virtio_nic_top_flow_bytes'), legend: '{{device}} {{rank}}' }],
            unit: 'bytes',
            noValue: 'no flows',
            width: 12,
            height: 10,
          }),
          lines({
            title: 'What the largest flows have of all bytes',
            description: 'Bytes of the largest flows over all bytes that arrived and left since attach.',
            queries: [
              {
                expr: `sum by (device) (${of('virtio_nic_top_flow_bytes')}) / clamp_min(sum by (device) (${of('virtio_nic_rx_bytes_total')}) + sum by (device) (${of('virtio_nic_tx_bytes_total')}), 1)`,
                legend: '{{device}}',
              },
            ],
            unit: 'percentunit',
            max: 1,
            noValue: 'no flows',
            width: 12,
            height: 10,
          }),
        ],
      },
    ],
  });
