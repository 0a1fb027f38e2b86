// SPDX-License-Identifier: Apache-2.0
/**
 * The short way for rules that are plainly right, which is nearly all of a set of 100,000. It knows the schema by heart;
 * what it does not take is read again by schema, which decides and says what is wrong. So whatever is taken here must
 * be valid there and mean the same.
 */
import { VnicError } from '../../errors.ts';
import { VnicLimits } from '../../maps/generated/abi.ts';
import { type Limit, MAX_PORT, MAX_PRIORITY, MAX_RULE_ID, type Match, type PortRange, type Rule } from './model.ts';
import { parsePorts } from './ports.ts';
import { coversAllIpv4, familyOf, type Prefix, parsePrefix } from './prefix.ts';
import { hasPorts, parseProtocol } from './protocols.ts';
import { defaultBurst, parseBurst, parseRate } from './units.ts';

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };
type Fields = Record<string, unknown>;

/** Anything that is not plainly right. Thrown without a stack and never seen outside. */
const notPlain = Symbol('not plain');

/** The rule, or undefined if the input has to be read by schema. */
export function readPlainRule(input: unknown): Rule | undefined {
  try {
    return plainRule(fieldsOf(input));
  } catch (error) {
    if (error === notPlain || error instanceof VnicError) return undefined;
    throw error;
  }
}

function plainRule(user: Fields): Rule {
  let id: number | undefined;
  let priority = 0;
  let direction: Rule['direction'] = 'ingress';
  let match: Match = {};
  let action: Rule['action'] | undefined;
  let limit: Limit | undefined;
  let queues: readonly number[] | undefined;
  let shadow = false;
  for (const name in user) {
    const value = user[name];
    switch (name) {
      case 'id':
        id = wholeNumber(value, 1, MAX_RULE_ID);
        break;
      case 'priority':
        priority = wholeNumber(value, 0, MAX_PRIORITY);
        break;
      case 'direction':
        direction = oneOf(value, 'ingress', 'egress');
        break;
      case 'match':
        match = plainMatch(fieldsOf(value));
        break;
      case 'action':
        action = oneOf(value, 'pass', 'drop');
        break;
      case 'limit':
        limit = plainLimit(fieldsOf(value));
        break;
      case 'queues':
        queues = plainQueues(value);
        break;
      case 'shadow':
        if (typeof value !== 'boolean') throw notPlain;
        shadow = value;
        break;
      default:
        throw notPlain;
    }
  }
  if (id === undefined || action === undefined) throw notPlain;
  if (limit?.mode === 'shape' && direction === 'ingress') throw notPlain;
  if (action === 'drop' && (limit !== undefined || queues !== undefined)) throw notPlain;
  const rule: Mutable<Rule> = { id, priority, direction, match, action, shadow };
  if (limit !== undefined) rule.limit = limit;
  if (queues !== undefined) rule.queues = queues;
  return rule;
}

function plainMatch(user: Fields): Match {
  const match: Mutable<Match> = {};
  for (const name in user) {
    const value = user[name];
    switch (name) {
      case 'src':
      case 'dst':
        if (typeof value !== 'string') throw notPlain;
        match[name] = parsePrefix(value);
        break;
      case 'proto':
        match.proto = parseProtocol(textOrNumber(value));
        break;
      case 'srcPort':
      case 'dstPort':
        match[name] = plainPorts(value);
        break;
      default:
        throw notPlain;
    }
  }
  const { src, dst, proto, srcPort, dstPort } = match;
  if (src !== undefined && dst !== undefined && familyOf(src) !== familyOf(dst)) throw notPlain;
  if (mayTakeIpv4Along(src) || mayTakeIpv4Along(dst)) throw notPlain;
  const hasRange = srcPort !== undefined || dstPort !== undefined;
  if (hasRange && (proto === undefined || !hasPorts(proto))) throw notPlain;
  return match;
}

/** Where such a prefix is right depends on the other side: not plain. */
function mayTakeIpv4Along(prefix: Prefix | undefined): boolean {
  return prefix !== undefined && coversAllIpv4(prefix);
}

function plainPorts(value: unknown): PortRange {
  if (typeof value === 'number') {
    const port = wholeNumber(value, 0, MAX_PORT);
    return { first: port, last: port };
  }
  return parsePorts(textOrNumber(value));
}

function plainLimit(user: Fields): Limit {
  let scope: Limit['scope'] = 'rule';
  let mode: Limit['mode'] = 'police';
  for (const name in user) {
    const value = user[name];
    if (name === 'scope') scope = oneOf(value, 'rule', 'flow');
    else if (name === 'mode') mode = oneOf(value, 'police', 'shape');
    else if (name !== 'rate' && name !== 'burst') throw notPlain;
  }
  const rate = parseRate(textOrNumber(user['rate']));
  const burst = 'burst' in user ? parseBurst(textOrNumber(user['burst']), rate) : defaultBurst(rate);
  return { rate, burst, scope, mode };
}

function plainQueues(value: unknown): readonly number[] {
  if (!Array.isArray(value) || value.length === 0) throw notPlain;
  const queues = Array.from(value as unknown[], (queue) => wholeNumber(queue, 0, VnicLimits.maxQueues - 1));
  queues.sort((a, b) => a - b);
  for (let index = 1; index < queues.length; index++) {
    if (queues[index] === queues[index - 1]) throw notPlain;
  }
  return queues;
}

/** Objects as JSON.parse and YAML make them: every field is their own. */
function fieldsOf(value: unknown): Fields {
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) throw notPlain;
  return value as Fields;
}

function wholeNumber(value: unknown, min: number, max: number): number {
  // -0 is a whole number, but not the 0 that others compare with.
  if (!Number.isInteger(value) || Object.is(value, -0)) throw notPlain;
  if ((value as number) < min || (value as number) > max) throw notPlain;
  return value as number;
}

function oneOf<A extends string, B extends string>(value: unknown, a: A, b: B): A | B {
  if (value === a) return a;
  if (value === b) return b;
  throw notPlain;
}

function textOrNumber(value: unknown): string | number {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw notPlain;
}
