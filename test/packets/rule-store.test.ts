// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { RuleStore } from '../../src/app/rule-store.ts';
import { VnicLimits, VnicRuleEntry, VnicRuleKey } from '../../src/maps/generated/abi.ts';
import { BpfMap, HashMap } from '../../src/maps/index.ts';
import { compileRules, decodeActions, decodeEntries } from '../../src/steering/rules/compile.ts';
import type { Rule } from '../../src/steering/rules/model.ts';
import { parseRule } from '../../src/steering/rules/parse.ts';
import { policed } from '../../src/steering/rules/shaping.ts';
import { planRules, type RulePlan } from '../../src/steering/rules/validate.ts';
import { TestDataplane } from '../support/dataplane.ts';
import { editedRules, type RuleEdit, ruleEdits } from '../support/rule-edits.ts';
import { countShapes, ruleSets } from '../support/rules.ts';

const MAX_RULES = 64;

/** The live set as the kernel has it. */
function liveSet({ dataplane, native, rules }: TestDataplane) {
  const set = rules.generation() % VnicLimits.ruleSets;
  using inner = BpfMap.fromId(native, dataplane.rules.innerId(set)!);
  const entries = [...new HashMap(native, inner, VnicRuleKey, VnicRuleEntry).entries()];
  const actions = Array.from({ length: MAX_RULES }, (_, slot) => dataplane.ruleActions.read(set * MAX_RULES + slot));
  const shapes = [0, 1].map((direction) => {
    const index = set * 2 + direction;
    const { count } = dataplane.shapeCounts.read(index);
    return Array.from({ length: count }, (_, at) => dataplane.shapes.read(index * VnicLimits.maxShapes + at));
  });
  return { entries: byText(entries.map(([key, value]) => ({ key, ...value }))), actions, shapes };
}

function byText<T>(values: T[]): T[] {
  const text = (value: T): string =>
    JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part));
  return values.toSorted((a, b) => (text(a) < text(b) ? -1 : 1));
}

/** The same as it follows from the rules alone. */
function expectedSet(rules: readonly Rule[], slots: ReadonlyMap<number, number>, canShape: boolean) {
  const compiled = compileRules(canShape ? rules : policed(rules), slots);
  const unused = { ruleId: 0, flags: 0, queues: 0n, costPerByte: 0n, costPerPacket: 0n, tolerance: 0n };
  const actions = Array.from({ length: MAX_RULES }, () => unused);
  for (const { slot, ...action } of decodeActions(compiled)) actions[slot] = action;
  return { entries: byText(decodeEntries(compiled)), actions, shapes: [compiled.ingress, compiled.egress] };
}

describe('loading a rule set', () => {
  let dataplane: TestDataplane;
  before(() => {
    dataplane = new TestDataplane({ maxFlows: 64, maxRules: MAX_RULES });
  });
  after(() => dataplane.close());

  const fits = (rules: readonly Rule[]): boolean =>
    Math.max(countShapes(rules, 'ingress'), countShapes(rules, 'egress')) <= VnicLimits.maxShapes;

  it('leaves the same in the kernel, whatever was there and whoever put it there', function () {
    this.timeout(120_000);
    const steps = fc.array(
      fc.record({
        edits: ruleEdits(),
        canShape: fc.boolean(),
        /** Another process takes over, and this one comes back later. */
        by: fc.constantFrom(0, 0, 0, 1),
        forget: fc.nat(9).map((value) => value === 0),
        abandoned: fc.nat(4).map((value) => value === 0),
      }),
      { minLength: 1, maxLength: 8 },
    );
    fc.assert(
      fc.property(ruleSets(30), ruleSets(6), steps, (first, others, changes) => {
        fc.pre(fits([...first, ...others]));
        const stores = [new RuleStore(dataplane.dataplane), new RuleStore(dataplane.dataplane)];
        const limit = parseRule({
          id: 1,
          direction: 'egress',
          action: 'pass',
          limit: { rate: '1mbit', mode: 'shape' },
        });
        const shaped = first.map((rule) =>
          rule.direction === 'egress' ? { ...limit, ...rule, action: 'pass' as const } : rule,
        );
        let plan: RulePlan = planRules(shaped);
        let slots: ReadonlyMap<number, number> = dataplane.rules.slots();
        for (const { edits, canShape, by, forget, abandoned } of changes) {
          const withRules: RuleEdit[] = edits.map((edit, index) => ({ ...edit, rule: others[index % others.length]! }));
          plan = planRules(editedRules(plan.rules, withRules), {}, plan);
          const store = stores[by]!;
          if (forget) store.forget();
          if (abandoned) store.prepare(planRules([]), []);
          const prepared = store.prepare(plan, [], canShape);
          store.activate(prepared);
          for (const [id, slot] of prepared.slots) if (slots.has(id)) assert.equal(slot, slots.get(id), `rule ${id}`);
          slots = prepared.slots;
          assert.deepEqual(dataplane.rules.slots(), new Map([...slots].toSorted((a, b) => a[1] - b[1])));
          for (const { id } of plan.rules) assert.equal(stores[1 - by]!.slotOf(id), slots.get(id));
          assert.deepEqual(liveSet(dataplane), expectedSet(plan.rules, slots, canShape));
        }
      }),
      { numRuns: 60 },
    );
  });

  it('takes no new table where rules only do something else', () => {
    const store = new RuleStore(dataplane.dataplane);
    const rules = [1, 2, 3].map((id) => parseRule({ id, match: { src: `10.0.0.${id}` }, action: 'pass' }));
    const innerIds = () => [0, 1].map((set) => dataplane.dataplane.rules.innerId(set));
    store.activate(store.prepare(rules, []));
    const limited = rules.with(
      1,
      parseRule({ id: 2, match: { src: '10.0.0.2' }, action: 'pass', limit: { rate: '1mbit' } }),
    );
    store.activate(store.prepare(limited, []));
    const [one, other] = innerIds();
    assert.equal(one, other);
    assert.ok(liveSet(dataplane).actions.some(({ costPerByte }) => costPerByte > 0n));
    store.activate(store.prepare(limited.slice(1), []));
    assert.notEqual(innerIds()[0], innerIds()[1]);
  });

  it('loads all of it again after the store was told to forget', () => {
    const store = new RuleStore(dataplane.dataplane);
    const rules = [1, 2].map((id) => parseRule({ id, match: { src: `10.0.0.${id}` }, action: 'drop' }));
    store.activate(store.prepare(rules, []));
    const { ruleActions } = dataplane.dataplane;
    const set = store.generation() % VnicLimits.ruleSets;
    const slot = store.slotOf(2)!;
    const whole = liveSet(dataplane);
    // Somebody else damages the live set.
    ruleActions.write(set * MAX_RULES + slot, {});
    using inner = BpfMap.fromId(dataplane.native, dataplane.dataplane.rules.innerId(set)!);
    new HashMap(dataplane.native, inner, VnicRuleKey, VnicRuleEntry).clear();
    assert.equal(dataplane.rules.slots().size, 1);
    store.forget();
    store.activate(store.prepare(rules, []));
    const mended = liveSet(dataplane);
    assert.deepEqual(
      mended.actions
        .map(({ ruleId }) => ruleId)
        .filter((id) => id > 0)
        .toSorted((a, b) => a - b),
      [1, 2],
    );
    assert.equal(mended.entries.length, whole.entries.length);
  });
});
