// SPDX-License-Identifier: Apache-2.0
/** From the rule as users write it to the normalised rule. */
import { z } from 'zod';
import { VnicError } from '../../errors.ts';
import { type Limit, MAX_RULE_ID, type Match, type Rule } from './model.ts';
import { readPlainRule } from './plain-rule.ts';
import { parsePorts } from './ports.ts';
import { coversAllIpv4, familyOf, formatPrefix, type Prefix, parsePrefix } from './prefix.ts';
import { type Path, ProblemList, strictObject, wholeNumber } from './problems.ts';
import { hasPorts, parseProtocol } from './protocols.ts';
import { type LimitInput, type RuleInput, ruleSchema } from './schema.ts';
import { defaultBurst, parseBurst, parseRate } from './units.ts';

/** One rule. Throws invalid_rule with every problem in `details.problems`. */
export function parseRule(input: unknown): Rule {
  const problems = new ProblemList();
  const rule = readRule(input, [], problems);
  problems.throwIfAny('invalid_rule', 'rule is not valid');
  return rule!;
}

/** A list of rules. Throws invalid_rule with every problem of every rule. */
export function parseRules(input: unknown): Rule[] {
  const problems = new ProblemList();
  const rules = readRules(input, ['rules'], problems);
  problems.throwIfAny('invalid_rule', 'rules are not valid');
  return rules;
}

/** Reads a list of rules, recording problems instead of throwing; rules that are not valid are left out. */
export function readRules(input: unknown, path: Path, problems: ProblemList): Rule[] {
  const list = problems.check(z.array(z.unknown(), 'a list of rules'), input, path) ?? [];
  return readEachRule(list, path, problems).filter((rule) => rule !== undefined);
}

/** Nobody reads more, and each costs time. */
const MAX_PROBLEMS = 1000;

/** As readRules; undefined where a rule is not valid, or was not looked at because there are problems enough. */
export function readEachRule(list: readonly unknown[], path: Path, problems: ProblemList): (Rule | undefined)[] {
  const readBadRule = (item: unknown, index: number): Rule | undefined =>
    problems.problems.length < MAX_PROBLEMS ? readAnyRule(item, [...path, index], problems) : undefined;
  const rules = list.map((item, index) => readPlainRule(item) ?? readBadRule(item, index));
  if (problems.problems.length >= MAX_PROBLEMS) {
    problems.add(path, 'has more problems than are named here', 'Correct these first.');
  }
  return rules;
}

/** Reads one rule, recording problems; undefined if there was one. */
export function readRule(input: unknown, path: Path, problems: ProblemList): Rule | undefined {
  return readPlainRule(input) ?? readAnyRule(input, path, problems);
}

/** The definition of what a rule is; says what is wrong with one that is not. */
export function readAnyRule(input: unknown, path: Path, problems: ProblemList): Rule | undefined {
  const before = problems.problems.length;
  const user = problems.checkFields(ruleSchema, input, path);
  const direction = user.direction ?? 'ingress';
  const match = readMatch(user.match ?? {}, [...path, 'match'], problems);
  const limit = user.limit === undefined ? undefined : readLimit(user.limit, [...path, 'limit'], problems);
  const queues = user.queues === undefined ? undefined : readQueues(user.queues, [...path, 'queues'], problems);

  if (user.limit?.mode === 'shape' && direction === 'ingress') {
    problems.add([...path, 'limit', 'mode'], 'traffic that arrives cannot be shaped', 'Use mode police or egress.');
  }
  if (user.action === 'drop') {
    for (const field of ['limit', 'queues'] as const) {
      if (user[field] === undefined) continue;
      problems.add([...path, field], `a rule that drops its packets has no use for ${field}`, `Remove ${field}.`);
    }
  }
  if (problems.problems.length > before) return undefined;
  return {
    id: user.id!,
    priority: user.priority ?? 0,
    direction,
    match,
    action: user.action!,
    ...(limit === undefined ? {} : { limit }),
    ...(queues === undefined ? {} : { queues }),
    shadow: user.shadow ?? false,
  };
}

function readMatch(user: NonNullable<RuleInput['match']>, path: Path, problems: ProblemList): Match {
  const src = readField(user.src, [...path, 'src'], problems, parsePrefix);
  const dst = readField(user.dst, [...path, 'dst'], problems, parsePrefix);
  const proto = readField(user.proto, [...path, 'proto'], problems, parseProtocol);
  const srcPort = readField(user.srcPort, [...path, 'srcPort'], problems, parsePorts);
  const dstPort = readField(user.dstPort, [...path, 'dstPort'], problems, parsePorts);

  if (src !== undefined && dst !== undefined && familyOf(src) !== familyOf(dst)) {
    const message = `src is IPv${familyOf(src)} but dst is IPv${familyOf(dst)}: no packet has both`;
    problems.add(path, message, 'Use one family, or two rules.');
  }
  checkFamilyIsMeant(src, dst, [...path, 'src'], problems);
  checkFamilyIsMeant(dst, src, [...path, 'dst'], problems);
  for (const field of ['srcPort', 'dstPort'] as const) {
    if (user[field] === undefined || (user.proto !== undefined && proto === undefined)) continue;
    if (proto !== undefined && hasPorts(proto)) continue;
    const reason = proto === undefined ? 'no proto is given' : `protocol ${user.proto} has no ports`;
    problems.add([...path, field], `${field} cannot match: ${reason}`, 'Set proto to tcp, udp, sctp, dccp or udplite.');
  }
  return {
    ...(src === undefined ? {} : { src }),
    ...(dst === undefined ? {} : { dst }),
    ...(proto === undefined ? {} : { proto }),
    ...(srcPort === undefined ? {} : { srcPort }),
    ...(dstPort === undefined ? {} : { dstPort }),
  };
}

/**
 * IPv4 addresses are inside ::/0 in their v4-mapped form. Such a prefix is exact only if the other side says that the
 * packet is IPv6; otherwise a rule that reads "all IPv6" would take IPv4 along.
 */
function checkFamilyIsMeant(prefix: Prefix | undefined, other: Prefix | undefined, path: Path, problems: ProblemList) {
  if (prefix === undefined || !coversAllIpv4(prefix)) return;
  if (other !== undefined && familyOf(other) === 6 && !coversAllIpv4(other)) return;
  problems.add(
    path,
    `${formatPrefix(prefix)} would match IPv4 as well, whose addresses are inside it as ::ffff:0:0/96`,
    'Leave it out for both families, or name the IPv6 addresses meant, e.g. 2000::/3 for all global unicast.',
  );
}

function readLimit(user: LimitInput, path: Path, problems: ProblemList): Limit | undefined {
  const rate = readField(user.rate, [...path, 'rate'], problems, parseRate);
  if (rate === undefined) return undefined;
  const burst =
    user.burst === undefined
      ? defaultBurst(rate)
      : readField(user.burst, [...path, 'burst'], problems, (text) => parseBurst(text, rate));
  if (burst === undefined) return undefined;
  return { rate, burst, scope: user.scope ?? 'rule', mode: user.mode ?? 'police' };
}

function readQueues(user: readonly number[], path: Path, problems: ProblemList): number[] {
  if (user.length === 0) problems.add(path, 'the list of queues is empty', 'Name queues, or leave the field out.');
  const queues = [...new Set(user)].sort((a, b) => a - b);
  if (queues.length < user.length) {
    problems.add(path, 'a queue is listed twice', `Write [${queues.join(', ')}].`);
  }
  return queues;
}

function readField<In, Out>(
  input: In | undefined,
  path: Path,
  problems: ProblemList,
  parse: (input: In) => Out,
): Out | undefined {
  return input === undefined ? undefined : problems.attempt(path, () => parse(input));
}

/** A line of the QoS agent's protocol. */
export interface QosSetting {
  readonly ruleId: number;
  readonly bitsPerSecond: number;
}

const qosSchema = strictObject({
  flow_id: wholeNumber(1, MAX_RULE_ID),
  rate: z.number('a rate in kbit/s'),
});

/** `{"flow_id":1,"rate":10000}`: a rule id and its rate in kbit/s. Throws invalid_rule. */
export function parseQosLine(line: string): QosSetting {
  let input: unknown;
  try {
    input = JSON.parse(line);
  } catch (cause) {
    throw new VnicError('invalid_rule', `not a JSON line: ${line.slice(0, 80)}`, {
      remedy: 'Write one object a line: {"flow_id":1,"rate":10000}.',
      cause,
    });
  }
  const problems = new ProblemList();
  const user = problems.check(qosSchema, input, []);
  const rate = user === undefined ? undefined : problems.attempt(['rate'], () => parseRate(`${user.rate}kbit`));
  problems.throwIfAny('invalid_rule', 'QoS line is not valid');
  return { ruleId: user!.flow_id, bitsPerSecond: (rate as { bitsPerSecond: number }).bitsPerSecond };
}
