// SPDX-License-Identifier: Apache-2.0
/** Rules with their live counters, as they are printed. */
import type { AttachedDevice, RuleCounters } from '../app/attached-device.ts';
import { formatQueueList } from '../config/queue-list.ts';
import { formatRule } from '../steering/rules/format.ts';
import { rankRules } from '../steering/rules/model.ts';
import type { RuleInput } from '../steering/rules/schema.ts';
import { bytesText, red, table } from './output.ts';

export interface RuleView extends RuleInput {
  counters: RuleCounters;
}

const zero: RuleCounters = { packets: 0, bytes: 0, droppedPackets: 0, droppedBytes: 0 };

/** The rule that wins over all others first. */
export function ruleViews(device: AttachedDevice): RuleView[] {
  const counters = device.ruleCounters();
  return rankRules(device.config.rules).map((rule) => ({
    ...formatRule(rule),
    counters: counters.get(rule.id) ?? zero,
  }));
}

function matchText(match: RuleInput['match'] = {}): string {
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

function limitText({ limit }: RuleInput): string | null {
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
