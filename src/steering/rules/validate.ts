// SPDX-License-Identifier: Apache-2.0
/** What can only be seen in the whole rule set: duplicate ids, queues that do not exist, rules that never take effect. */
import { VnicError } from '../../errors.ts';
import { VnicLimits } from '../../maps/generated/abi.ts';
import { commonEnds } from './changes.ts';
import { inOrder, isAscending, type Rule, sameMatch } from './model.ts';
import { type PackedRules, packRules } from './packed.ts';
import { type Path, ProblemList } from './problems.ts';
import { type EarlierReachability, findUnreachable, warnOfUnreachable } from './reachability.ts';
import { layOut, type TupleSpace, type TupleSpaceLimits } from './tuple-space.ts';
import { type RuleWarning, WarningList, warnOfRule } from './warnings.ts';

export type { RuleWarning } from './warnings.ts';

export interface RuleSetOptions extends TupleSpaceLimits {
  /** Queues of the device; absent: not known yet. */
  readonly queues?: number;
  /** Rules that the dataplane holds; absent: not checked. */
  readonly maxRules?: number;
}

/** A rule set that is valid, laid out once for whoever checks, compiles or loads it. */
export interface RulePlan {
  readonly rules: readonly Rule[];
  readonly packed: PackedRules;
  readonly space: TupleSpace;
  /** 1 for each rule that no packet can reach, by position. */
  readonly unreachable: Uint8Array;
  /** The first MAX_WARNINGS, and one more that says how many are left out. */
  readonly warnings: readonly RuleWarning[];
  /** Of all, also those that are left out. */
  readonly warningCount: number;
}

/**
 * Checks a rule set as a whole. Throws invalid_rule (with every problem), capacity_exceeded or too_many_shapes.
 * @param previous of the set before, with the same options: where rules differ only in what they do, its layout stands
 */
export function planRules(rules: readonly Rule[], options: RuleSetOptions = {}, previous?: RulePlan): RulePlan {
  if (options.maxRules !== undefined && rules.length > options.maxRules) {
    throw new VnicError('capacity_exceeded', `${rules.length} rules, but the dataplane holds ${options.maxRules}`, {
      remedy: 'Remove rules, or attach with a larger rule capacity.',
      details: { rules: rules.length, maxRules: options.maxRules },
    });
  }
  const packed = packRules(rules, previous?.packed);
  const queues = options.queues ?? VnicLimits.maxQueues;
  if (haveEqualIds(packed.ids) || highest(packed.lastQueues) >= queues) {
    const problems = new ProblemList();
    readRuleSetProblems(rules, options.queues, ['rules'], problems);
    problems.throwIfAny('invalid_rule', 'rules are not valid');
  }
  if (previous !== undefined && haveSameLayout(previous.packed, packed)) {
    const { positions } = previous.space;
    return { ...previous, rules, packed, space: { ...previous.space, rules, ranked: inOrder(rules, positions) } };
  }
  const space = layOut(packed, options);
  const list = new WarningList();
  for (let position = 0; position < rules.length; position++) {
    if (packed.remarkable[position] === 1) warnOfRule(rules[position]!, list);
  }
  const unreachable = findUnreachable(space, previous && earlierReachability(previous, rules));
  warnOfUnreachable(space, unreachable, list);
  return { rules, packed, space, unreachable, warnings: list.warnings(), warningCount: list.count };
}

function earlierReachability(previous: RulePlan, rules: readonly Rule[]): EarlierReachability {
  return { unreachable: previous.unreachable, ends: commonEnds(previous.rules, rules, (a, b) => a === b) };
}

function highest(numbers: Int16Array): number {
  let found = -1;
  for (const number of numbers) if (number > found) found = number;
  return found;
}

/** Whether two sets have the same rules in the same order, but for what the rules do. */
function haveSameLayout(before: PackedRules, after: PackedRules): boolean {
  return (
    before.rules.length === after.rules.length &&
    before.rules.every((rule, position) => {
      const other = after.rules[position]!;
      if (rule === other) return true;
      const { id, priority, direction } = rule;
      const ranksTheSame = id === other.id && priority === other.priority && direction === other.direction;
      return ranksTheSame && sameMatch(rule.match, other.match);
    })
  );
}

/** The warnings of planRules. Throws as it does. */
export function validateRules(rules: readonly Rule[], options: RuleSetOptions = {}): RuleWarning[] {
  return [...planRules(rules, options).warnings];
}

/** Records duplicate ids and queues beyond the device's. `queues` undefined: not known; a rule undefined: not valid. */
export function readRuleSetProblems(
  rules: readonly (Rule | undefined)[],
  queues: number | undefined,
  path: Path,
  problems: ProblemList,
): void {
  const seen = haveEqualIds(idsOf(rules)) ? new Set<number>() : undefined;
  for (const [index, rule] of rules.entries()) {
    if (rule === undefined) continue;
    if (seen?.has(rule.id) === true) {
      problems.add([...path, index, 'id'], `rule id ${rule.id} is used twice`, 'Give each rule its own id.');
    }
    seen?.add(rule.id);
    if (rule.queues === undefined || queues === undefined) continue;
    const missing = rule.queues.filter((queue) => queue >= queues);
    if (missing.length > 0) {
      problems.add(
        [...path, index, 'queues'],
        `rule ${rule.id} names queue ${missing.join(', ')}, but the device has ${queues} queues`,
        `Use queues 0 to ${queues - 1}.`,
      );
    }
  }
}

/** Rules that are not valid count as different ids below 1, which no rule has. */
function idsOf(rules: readonly (Rule | undefined)[]): Float64Array {
  return Float64Array.from(rules, (rule, index) => rule?.id ?? -index);
}

/** By sorting, which for 100,000 rules takes a fraction of what a Set does. */
function haveEqualIds(ids: Float64Array): boolean {
  if (isAscending(ids)) return false;
  const ascending = ids.toSorted();
  for (let index = 1; index < ascending.length; index++) if (ascending[index] === ascending[index - 1]) return true;
  return false;
}
