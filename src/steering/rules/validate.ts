// SPDX-License-Identifier: Apache-2.0
/** What can only be seen in the whole rule set: duplicate ids, queues that do not exist, rules that never take effect. */
import { VnicError } from '../../errors.ts';
import { VnicRuleKey } from '../../maps/generated/abi.ts';
import { type Direction, type Rule, sameMatch } from './model.ts';
import { portMask } from './ports.ts';
import { coversAllIpv4, familyOf, prefixMask } from './prefix.ts';
import { type Path, ProblemList } from './problems.ts';
import { PROTO_ICMP, PROTO_ICMPV6 } from './protocols.ts';
import { buildTupleSpace, KEY_WORDS, type Shape, type TupleSpace, type TupleSpaceLimits } from './tuple-space.ts';

export interface RuleSetOptions extends TupleSpaceLimits {
  /** Queues of the device; absent: not known yet. */
  readonly queues?: number;
  /** Rules that the dataplane holds; absent: not checked. */
  readonly maxRules?: number;
}

export interface RuleWarning {
  readonly code: 'duplicate_match' | 'unreachable_rule' | 'wrong_icmp' | 'matches_fragments' | 'policed_not_shaped';
  /** The rule concerned first, then the rules that are the reason. */
  readonly ruleIds: readonly number[];
  readonly message: string;
}

/**
 * Checks a rule set as a whole; gives the warnings. Throws invalid_rule (with every problem), capacity_exceeded or
 * too_many_shapes.
 */
export function validateRules(rules: readonly Rule[], options: RuleSetOptions = {}): RuleWarning[] {
  if (options.maxRules !== undefined && rules.length > options.maxRules) {
    throw new VnicError('capacity_exceeded', `${rules.length} rules, but the dataplane holds ${options.maxRules}`, {
      remedy: 'Remove rules, or attach with a larger rule capacity.',
      details: { rules: rules.length, maxRules: options.maxRules },
    });
  }
  const problems = new ProblemList();
  readRuleSetProblems(rules, options.queues, ['rules'], problems);
  problems.throwIfAny('invalid_rule', 'rules are not valid');
  return [...rules.flatMap(ruleWarnings), ...unreachableWarnings(buildTupleSpace(rules, options))];
}

/** Records duplicate ids and queues beyond the device's. `queues` undefined: not known; a rule undefined: not valid. */
export function readRuleSetProblems(
  rules: readonly (Rule | undefined)[],
  queues: number | undefined,
  path: Path,
  problems: ProblemList,
): void {
  const seen = new Set<number>();
  for (const [index, rule] of rules.entries()) {
    if (rule === undefined) continue;
    if (seen.has(rule.id)) {
      problems.add([...path, index, 'id'], `rule id ${rule.id} is used twice`, 'Give each rule its own id.');
    }
    seen.add(rule.id);
    const missing = rule.queues?.filter((queue) => queues !== undefined && queue >= queues) ?? [];
    if (missing.length > 0) {
      problems.add(
        [...path, index, 'queues'],
        `rule ${rule.id} names queue ${missing.join(', ')}, but the device has ${queues} queues`,
        `Use queues 0 to ${(queues ?? 0) - 1}.`,
      );
    }
  }
}

function ruleWarnings(rule: Rule): RuleWarning[] {
  const warnings: RuleWarning[] = [];
  const { src, dst, proto, srcPort, dstPort } = rule.match;
  const prefix = src === undefined || coversAllIpv4(src) ? dst : src;
  const wrong = prefix !== undefined && proto === (familyOf(prefix) === 4 ? PROTO_ICMPV6 : PROTO_ICMP);
  if (wrong) {
    const message = `rule ${rule.id} matches protocol ${proto} in IPv${familyOf(prefix)}, where it is not used`;
    warnings.push({ code: 'wrong_icmp', ruleIds: [rule.id], message });
  }
  if ([srcPort, dstPort].some((range) => range?.first === 0 && range.last < 65535)) {
    const message = `rule ${rule.id} matches port 0, which every fragment of a datagram carries`;
    warnings.push({ code: 'matches_fragments', ruleIds: [rule.id], message });
  }
  return warnings;
}

/**
 * Rules that no packet can reach: each of their keys is held by, or lies inside a key of, a better rule. A rule that
 * only several better rules together cover within one key is not found.
 */
function unreachableWarnings(space: TupleSpace): RuleWarning[] {
  const reachable = new Uint8Array(space.ranked.length);
  const winners = new Map<number, Set<number>>();
  function cover(order: number, winner: number): void {
    const known = winners.get(order);
    if (known === undefined) winners.set(order, new Set([winner]));
    else known.add(winner);
  }
  for (let pair = 0; pair < space.collisions.length; pair += 2) {
    cover(space.collisions[pair]!, space.collisions[pair + 1]!);
  }
  const findWider = widerKeyFinder(space);
  for (let entry = 0; entry < space.entryCount; entry++) {
    const order = space.orders[entry]!;
    if (reachable[order] === 1) continue;
    const winner = findWider(entry);
    if (winner === undefined) reachable[order] = 1;
    else cover(order, winner);
  }

  const warnings: RuleWarning[] = [];
  for (const [order, by] of [...winners].sort((a, b) => a[0] - b[0])) {
    if (reachable[order] === 1) continue;
    const rule = space.ranked[order]!;
    const better = [...by].sort((a, b) => a - b).map((winner) => space.ranked[winner]!);
    const twin = better.find((other) => sameMatch(rule.match, other.match));
    if (twin !== undefined) {
      const message = `rule ${rule.id} matches exactly what rule ${twin.id} matches, which wins`;
      warnings.push({ code: 'duplicate_match', ruleIds: [rule.id, twin.id], message });
      continue;
    }
    const ids = better.map((other) => other.id);
    const message = `rule ${rule.id} never takes effect: all it matches goes to rule ${ids.join(', ')}`;
    warnings.push({ code: 'unreachable_rule', ruleIds: [rule.id, ...ids], message });
  }
  return warnings;
}

/** Finds, for an entry, a better rule whose key in a wider shape contains the entry's. */
function widerKeyFinder(space: TupleSpace): (entry: number) => number | undefined {
  const words = new Uint32Array(space.keys.buffer, space.keys.byteOffset, space.entryCount * KEY_WORDS);
  const wider = { ingress: widerShapes(space.shapes.ingress), egress: widerShapes(space.shapes.egress) };
  const probe = new Uint8Array(VnicRuleKey.size);
  const probeWords = new Uint32Array(probe.buffer);
  const { shape: shapeByte, direction: directionByte } = VnicRuleKey.offsets;
  return (entry) => {
    const order = space.orders[entry]!;
    const keyStart = entry * VnicRuleKey.size;
    const direction: Direction = space.keys[keyStart + directionByte] === 0 ? 'ingress' : 'egress';
    for (const candidate of wider[direction][space.keys[keyStart + shapeByte]!] ?? []) {
      if (candidate.shape.bestOrder >= order) break;
      for (let word = 0; word < KEY_WORDS; word++) {
        probeWords[word] = words[entry * KEY_WORDS + word]! & candidate.mask[word]!;
      }
      probe[shapeByte] = candidate.shape.index;
      const winner = space.find(probeWords);
      if (winner !== undefined && winner < order) return winner;
    }
    return undefined;
  };
}

interface WiderShape {
  readonly shape: Shape;
  /** vnic_rule_key as a mask, in words; the direction is kept, the shape is not. */
  readonly mask: Uint32Array;
}

/** For each shape the others that every key of it falls into, in ascending bestOrder. */
function widerShapes(shapes: readonly Shape[]): WiderShape[][] {
  const all = shapes.map((shape) => ({ shape, mask: shapeMask(shape) }));
  return shapes.map((narrow) => all.filter(({ shape }) => shape !== narrow && isWider(shape, narrow)));
}

function isWider(wide: Shape, narrow: Shape): boolean {
  return (
    wide.srcBits <= narrow.srcBits &&
    wide.dstBits <= narrow.dstBits &&
    (narrow.protoGiven || !wide.protoGiven) &&
    wide.sportBits <= narrow.sportBits &&
    wide.dportBits <= narrow.dportBits
  );
}

function shapeMask(shape: Shape): Uint32Array {
  const bytes = VnicRuleKey.encode({
    src: { bytes: prefixMask(shape.srcBits) },
    dst: { bytes: prefixMask(shape.dstBits) },
    sport: portMask(shape.sportBits),
    dport: portMask(shape.dportBits),
    proto: shape.protoGiven ? 0xff : 0,
    direction: 0xff,
  });
  return new Uint32Array(bytes.buffer);
}
