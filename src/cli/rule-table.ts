// SPDX-License-Identifier: Apache-2.0
/** Rules with their live counters, as a table. */
import type { Output } from '../api/client.ts';
import { formatQueueList } from '../config/queue-list.ts';
import { bytesText, red, table } from './output.ts';

export type RuleView = Output<'getRule'>;

function matchText(match: RuleView['match'] = {}): string {
  const { src, dst, proto, srcPort, dstPort } = match;
  const parts = [
    ...(proto === undefined ? [] : [String(proto)]),
    ...(src === undefined ? [] : [`from ${src}`]),
    ...(srcPort === undefined ? [] : [`port ${srcPort}`]),
    ...(dst === undefined ? [] : [`to ${dst}`]),
    ...(dstPort === undefined ? [] : [`to port ${dstPort}`]),
  ];
  return parts.length === 0 ? 'everything' : parts.join(' ');
}

function limitText({ limit }: RuleView): string | null {
  if (limit === undefined) return null;
  return `${limit.rate} burst ${limit.burst} per ${limit.scope}${limit.mode === 'shape' ? ', shaped' : ''}`;
}

export function rulesText(rules: readonly RuleView[]): string {
  if (rules.length === 0) return 'There are no rules.';
  return table(rules, [
    { title: 'ID', value: (rule) => String(rule.id), align: 'right' },
    { title: 'PRIORITY', value: (rule) => String(rule.priority ?? 0), align: 'right' },
    { title: 'DIR', value: (rule) => (rule.direction === 'egress' ? 'out' : 'in') },
    { title: 'MATCH', value: (rule) => matchText(rule.match) },
    {
      title: 'ACTION',
      value: (rule) =>
        `${rule.action === 'drop' ? red('drop') : rule.action}${rule.shadow === true ? ' (shadow)' : ''}`,
    },
    { title: 'LIMIT', value: limitText },
    { title: 'QUEUES', value: (rule) => (rule.queues === undefined ? null : formatQueueList(rule.queues)) },
    { title: 'PACKETS', value: (rule) => rule.counters.packets },
    { title: 'BYTES', value: (rule) => bytesText(rule.counters.bytes), align: 'right' },
    { title: 'DROPPED', value: (rule) => rule.counters.droppedPackets },
  ]);
}
