// SPDX-License-Identifier: Apache-2.0
import { makeDashboard } from './make.ts';
import { bars, lines, of, rate } from './panels.ts';

export const rules = () =>
  makeDashboard({
    name: 'rules',
    title: 'Rules and limits',
    description: 'What rules match, drop and limit.',
    rows: [
      {
        title: 'Drops',
        panels: [
          lines({
            title: 'Drops by reason',
            description: 'By a rule, by the limit of a rule, by the limit of a flow; in both directions.',
            queries: [
              {
                expr: `sum by (device, reason) (${rate(of('virtio_nic_drops_total'))})`,
                legend: '{{device}} {{reason}}',
              },
            ],
            unit: 'pps',
            stacked: true,
            width: 8,
          }),
          lines({
            title: 'Share dropped by limits',
            description: 'Of the packets of both directions, over the last minute.',
            queries: [{ expr: of('device:virtio_nic_limit_drops:ratio_rate1m'), legend: '{{device}}' }],
            unit: 'percentunit',
            width: 8,
          }),
          lines({
            title: 'Charged without being asked',
            description:
              'Packets that were charged to a limit without being asked, because other CPUs were faster: how exact limits are.',
            queries: [{ expr: rate(of('virtio_nic_limiter_contended_total')), legend: '{{device}}' }],
            unit: 'pps',
            width: 8,
          }),
        ],
      },
      {
        title: 'Rules',
        panels: [
          lines({
            title: 'Packets by verdict',
            description: 'Of packets that matched a rule. shadow: would have been dropped, and passed.',
            queries: [
              {
                expr: `sum by (device, verdict) (${rate(of('virtio_nic_rule_packets_total'))})`,
                legend: '{{device}} {{verdict}}',
              },
            ],
            unit: 'pps',
            noValue: 'no rules',
            stacked: true,
            width: 12,
          }),
          lines({
            title: 'The ten busiest rules',
            description:
              'Bits a second that matched the rule. other: the sum of all rules without series of their own.',
            queries: [
              {
                expr: `topk(10, 8 * sum by (device, rule, verdict) (${rate(of('virtio_nic_rule_bytes_total'))}))`,
                legend: '{{device}} rule {{rule}} {{verdict}}',
              },
            ],
            unit: 'bps',
            noValue: 'no rules',
            width: 12,
          }),
          bars({
            title: 'Packets by rule',
            description: 'The 20 rules that most packets matched since they were added.',
            queries: [
              {
                expr: `topk(20, sum by (device, rule, verdict) (${of('virtio_nic_rule_packets_total')}))`,
                legend: '{{device}} rule {{rule}} {{verdict}}',
              },
            ],
            unit: 'short',
            noValue: 'no rules',
            width: 12,
            height: 12,
          }),
          bars({
            title: 'Refused by rule',
            description: 'Packets that each rule dropped, limited, or as a shadow would have, within the last minute.',
            queries: [
              {
                expr: `topk(20, sum by (device, rule, verdict) (rate(${of('virtio_nic_rule_packets_total', 'verdict!="pass"')}[1m])))`,
                legend: '{{device}} rule {{rule}} {{verdict}}',
              },
            ],
            unit: 'pps',
            noValue: 'no rule drops, limits or shadows',
            width: 12,
            height: 12,
          }),
        ],
      },
    ],
  });
