// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { alignRules, compareRules, reuseRules } from '../../src/steering/rules/changes.ts';
import { formatRule } from '../../src/steering/rules/format.ts';
import { type Rule, rankRules, sameRule, specificity } from '../../src/steering/rules/model.ts';
import { parseRule } from '../../src/steering/rules/parse.ts';
import { planRules, type RulePlan } from '../../src/steering/rules/validate.ts';
import { MAX_WARNINGS } from '../../src/steering/rules/warnings.ts';
import { editedRules, type RuleEdit, ruleEdits } from '../support/rule-edits.ts';
import { countShapes, ruleSets } from '../support/rules.ts';
import { thrownBy } from '../support/thrown.ts';
import { validRules } from '../support/valid-rules.ts';

const copyOf = (rule: Rule): Rule => structuredClone(rule);

describe('two rule sets', () => {
  /** Sets with unique ids, the second made of copies of the first by edits. */
  const pairs = fc
    .tuple(fc.uniqueArray(validRules(), { selector: ({ id }) => id, maxLength: 12 }), ruleEdits(validRules()))
    .map(([before, edits]) => [before, editedRules(before, edits).map(copyOf)] as const);

  it('are compared by what the rules mean, in any order', () => {
    const seen = { added: 0, changed: 0, removed: 0, unchanged: 0 };
    fc.assert(
      fc.property(pairs, ([before, after]) => {
        const same = (a: Rule, b: Rule): boolean => isDeepStrictEqual(formatRule(a), formatRule(b));
        const earlier = (rule: Rule): Rule | undefined => before.find(({ id }) => id === rule.id);
        const kept = after.filter((rule) => earlier(rule) !== undefined);
        const expected = {
          added: after.filter((rule) => earlier(rule) === undefined).map(({ id }) => id),
          changed: kept.filter((rule) => !same(earlier(rule)!, rule)).map(({ id }) => id),
          removed: before.filter(({ id }) => !after.some((rule) => rule.id === id)).map(({ id }) => id),
          unchanged: kept.filter((rule) => same(earlier(rule)!, rule)).length,
        };
        assert.deepEqual(compareRules(before, after), expected);
        seen.added += expected.added.length;
        seen.changed += expected.changed.length;
        seen.removed += expected.removed.length;
        seen.unchanged += expected.unchanged;
      }),
      { numRuns: 500 },
    );
    assert.ok(Math.min(...Object.values(seen)) > 20, JSON.stringify(seen));
  });

  it('share the objects of rules that stay as they are', () => {
    fc.assert(
      fc.property(pairs, ([before, after]) => {
        const reused = reuseRules(before, after);
        assert.deepEqual(reused, after);
        for (const [position, rule] of reused.entries()) {
          const known = before.find((candidate) => sameRule(candidate, rule));
          assert.equal(rule === known, known !== undefined, `rule ${after[position]!.id}`);
        }
      }),
    );
  });

  it('are aligned by id', () => {
    fc.assert(
      fc.property(pairs, ([before, after]) => {
        const expected = after.map(({ id }) => before.findIndex((rule) => rule.id === id));
        assert.deepEqual([...alignRules(before, after)], expected);
      }),
    );
  });
});

describe('the ranking of rules', () => {
  it('is by priority, then specificity, then id', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(validRules(), fc.nat(2)), { maxLength: 30 }), (entries) => {
        // Few different priorities, so that the other parts of the order count.
        const rules = entries.map(([rule, priority]) => ({
          ...rule,
          priority: priority === 2 ? rule.priority : priority,
        }));
        const expected = rules.toSorted(
          (a, b) => b.priority - a.priority || specificity(b.match) - specificity(a.match) || a.id - b.id,
        );
        assert.deepEqual(rankRules(rules), expected);
      }),
    );
  });
});

describe('the plan of a rule set', () => {
  const fits = (rules: readonly Rule[]): boolean =>
    Math.max(countShapes(rules, 'ingress'), countShapes(rules, 'egress')) <= 128;

  /** All of a plan but its functions. */
  function contents({ rules, packed, space, unreachable, warnings, warningCount }: RulePlan): unknown {
    const { positions, ranked, shapes, keys, orders, firstEntries, collisions } = space;
    const { ids, rankKeys, lastQueues, remarkable } = packed;
    return {
      rules,
      unreachable,
      warnings,
      warningCount,
      packed: { ids, rankKeys, lastQueues, remarkable, keys: packed.keys },
      space: { rules: space.rules, positions, ranked, shapes, keys, orders, firstEntries, collisions },
    };
  }

  it('that is made from the plan before is the same as one that is made anew', function () {
    this.timeout(60_000);
    let kept = 0;
    let turned = 0;
    fc.assert(
      fc.property(ruleSets(40), ruleSets(6), fc.array(ruleEdits(), { maxLength: 6 }), (first, others, steps) => {
        fc.pre(fits([...first, ...others]));
        let plan = planRules(first);
        for (const edits of steps) {
          const withRules: RuleEdit[] = edits.map((edit, index) => ({ ...edit, rule: others[index % others.length]! }));
          const next = editedRules(plan.rules, withRules);
          const updated = planRules(next, {}, plan);
          if (updated.space.keys === plan.space.keys) kept++;
          for (const [position, rule] of next.entries()) {
            const before = plan.rules.indexOf(rule);
            if (before >= 0 && plan.unreachable[before] !== updated.unreachable[position]) turned++;
          }
          assert.deepEqual(contents(updated), contents(planRules(next)));
          plan = updated;
        }
      }),
      { numRuns: 500 },
    );
    assert.ok(kept > 50, `${kept} layouts were kept`);
    assert.ok(turned > 50, `${turned} rules that stayed became reachable or were hidden`);
  });

  it('keeps its layout where rules only do something else, and knows the new rules', () => {
    const rules = [1, 2].map((id) => parseRule({ id, match: { src: `10.0.0.${id}` }, action: 'pass' }));
    const plan = planRules(rules);
    const changed = [rules[0]!, { ...rules[1]!, action: 'drop' as const }];
    const updated = planRules(changed, {}, plan);
    assert.equal(updated.space.keys, plan.space.keys);
    assert.equal(updated.space.ranked[1], changed[1]);
    assert.equal(updated.rules, changed);
  });

  it('is refused for a new rule with a used id, or with a queue that is not there', () => {
    const rules = [1, 2, 3].map((id) => parseRule({ id, match: { src: `10.0.0.${id}` }, action: 'pass' }));
    const plan = planRules(rules, { queues: 4 });
    const again = [...rules, parseRule({ id: 2, match: { src: '10.0.0.9' }, action: 'pass' })];
    const { details } = thrownBy(() => planRules(again, { queues: 4 }, plan));
    assert.deepEqual(
      (details['problems'] as { path: string }[]).map(({ path }) => path),
      ['rules[3].id'],
    );
    const beyond = rules.with(1, parseRule({ id: 2, match: { src: '10.0.0.2' }, action: 'pass', queues: [0, 4] }));
    assert.match(thrownBy(() => planRules(beyond, { queues: 4 }, plan)).message, /queue 4/);
  });

  it('warns of the first rules that never take effect and counts the others', () => {
    const hidden = MAX_WARNINGS + 500;
    const match = { src: '10.0.0.0/8' };
    const rules = Array.from({ length: hidden + 1 }, (_, index) => parseRule({ id: index + 1, match, action: 'drop' }));
    const { warnings, warningCount } = planRules(rules);
    assert.equal(warningCount, hidden);
    assert.equal(warnings.length, MAX_WARNINGS + 1);
    assert.deepEqual(warnings[0], {
      code: 'duplicate_match',
      ruleIds: [2, 1],
      message: 'rule 2 matches exactly what rule 1 matches, at the same priority: the lower id wins',
    });
    assert.deepEqual(warnings.at(-1), { code: 'more_warnings', ruleIds: [], message: '500 more warnings, not shown' });
  });
});
