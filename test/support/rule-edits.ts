// SPDX-License-Identifier: Apache-2.0
/** Random changes from one rule set to the next. */
import fc from 'fast-check';
import type { Rule } from '../../src/steering/rules/model.ts';

export interface RuleEdit {
  kind: 'action' | 'match' | 'add' | 'remove' | 'move';
  /** Of the rule concerned, modulo the number of rules. */
  position: number;
  /** Where a rule comes from or goes to, and the id of a new one. */
  other: number;
  /** Gives its match and priority, or is added. */
  rule: Rule;
}

const plainRule: Rule = { id: 1, priority: 0, direction: 'ingress', match: {}, action: 'pass', shadow: false };

export function ruleEdits(rules: fc.Arbitrary<Rule> = fc.constant(plainRule)): fc.Arbitrary<RuleEdit[]> {
  return fc.array(
    fc.record({
      kind: fc.constantFrom(
        'action' as const,
        'action' as const,
        'match' as const,
        'add' as const,
        'remove' as const,
        'move' as const,
      ),
      position: fc.nat(1000),
      other: fc.nat(1000),
      rule: rules,
    }),
    { maxLength: 3 },
  );
}

/** The set after the edits; ids stay unique, rules that are not concerned keep their objects. */
export function editedRules(rules: readonly Rule[], edits: readonly RuleEdit[]): Rule[] {
  const next = [...rules];
  for (const { kind, position: asked, other, rule } of edits) {
    const position = asked % Math.max(next.length, 1);
    const present = next[position];
    if (kind === 'add') {
      // Among the ids of the set as well as above them all.
      const ids = new Set(next.map(({ id }) => id));
      let id = 1 + other * 97;
      while (ids.has(id)) id++;
      next.splice(position, 0, { ...rule, id });
    } else if (present === undefined) {
    } else if (kind === 'action') {
      next[position] = { ...present, shadow: !present.shadow };
    } else if (kind === 'match') {
      next[position] = { ...present, priority: rule.priority, direction: rule.direction, match: rule.match };
    } else if (kind === 'remove') {
      next.splice(position, 1);
    } else {
      next.splice(other % next.length, 0, ...next.splice(position, 1));
    }
  }
  return next;
}
