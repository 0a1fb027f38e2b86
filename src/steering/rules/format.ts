// SPDX-License-Identifier: Apache-2.0
/** From the normalised rule back to the user form. */
import type { Limit, Match, PortRange, Rule } from './model.ts';
import { formatPrefix } from './prefix.ts';
import { formatProtocol } from './protocols.ts';
import type { LimitInput, RuleInput } from './schema.ts';
import { formatBurst, formatRate } from './units.ts';

/** The canonical user form: defaults are spelt out, and parseRule gives the same rule back. */
export function formatRule(rule: Rule): RuleInput {
  return {
    id: rule.id,
    priority: rule.priority,
    direction: rule.direction,
    match: formatMatch(rule.match),
    action: rule.action,
    ...(rule.limit === undefined ? {} : { limit: formatLimit(rule.limit) }),
    ...(rule.queues === undefined ? {} : { queues: [...rule.queues] }),
    shadow: rule.shadow,
  };
}

function formatMatch(match: Match): NonNullable<RuleInput['match']> {
  return {
    ...(match.src === undefined ? {} : { src: formatPrefix(match.src) }),
    ...(match.dst === undefined ? {} : { dst: formatPrefix(match.dst) }),
    ...(match.proto === undefined ? {} : { proto: formatProtocol(match.proto) }),
    ...(match.srcPort === undefined ? {} : { srcPort: formatPorts(match.srcPort) }),
    ...(match.dstPort === undefined ? {} : { dstPort: formatPorts(match.dstPort) }),
  };
}

function formatLimit(limit: Limit): LimitInput {
  return { rate: formatRate(limit.rate), burst: formatBurst(limit.burst), scope: limit.scope, mode: limit.mode };
}

/** 53 or "1024-65535". */
export function formatPorts(range: PortRange): number | string {
  return range.first === range.last ? range.first : `${range.first}-${range.last}`;
}
