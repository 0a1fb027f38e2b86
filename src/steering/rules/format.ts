// SPDX-License-Identifier: Apache-2.0
/** From the normalised rule back to the user form. */
import type { Limit, Match, PortRange, Rule } from './model.ts';
import { formatPrefix } from './prefix.ts';
import { formatProtocol } from './protocols.ts';
import type { LimitInput, RuleInput } from './schema.ts';
import { formatBurst, formatRate } from './units.ts';

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** The canonical user form: defaults are spelt out, and parseRule gives the same rule back. */
export function formatRule(rule: Rule): RuleInput {
  const { id, priority, direction, match, action, limit, queues, shadow } = rule;
  const user: Mutable<RuleInput> = { id, priority, direction, match: formatMatch(match), action };
  if (limit !== undefined) user.limit = formatLimit(limit);
  if (queues !== undefined) user.queues = [...queues];
  user.shadow = shadow;
  return user;
}

function formatMatch({ src, dst, proto, srcPort, dstPort }: Match): NonNullable<RuleInput['match']> {
  const user: Mutable<NonNullable<RuleInput['match']>> = {};
  if (src !== undefined) user.src = formatPrefix(src);
  if (dst !== undefined) user.dst = formatPrefix(dst);
  if (proto !== undefined) user.proto = formatProtocol(proto);
  if (srcPort !== undefined) user.srcPort = formatPorts(srcPort);
  if (dstPort !== undefined) user.dstPort = formatPorts(dstPort);
  return user;
}

function formatLimit(limit: Limit): LimitInput {
  return { rate: formatRate(limit.rate), burst: formatBurst(limit.burst), scope: limit.scope, mode: limit.mode };
}

/** 53 or "1024-65535". */
export function formatPorts(range: PortRange): number | string {
  return range.first === range.last ? range.first : `${range.first}-${range.last}`;
}
