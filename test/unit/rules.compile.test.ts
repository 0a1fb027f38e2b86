// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { VnicRuleKey } from '../../src/maps/generated/abi.ts';
import { type CompiledRules, compileRules, decodeActions, decodeEntries } from '../../src/steering/rules/compile.ts';
import type { Flow, Rule } from '../../src/steering/rules/model.ts';
import { parseRule, parseRules } from '../../src/steering/rules/parse.ts';
import { portMask, portPrefixes } from '../../src/steering/rules/ports.ts';
import { parseAddress } from '../../src/steering/rules/prefix.ts';
import { compiledMatcher, matchRules } from '../../src/steering/rules/reference.ts';
import { assignSlots } from '../../src/steering/rules/slots.ts';
import { validateRules } from '../../src/steering/rules/validate.ts';
import { countShapes, flowsNear, ruleSets } from '../support/rules.ts';
import { thrownBy } from '../support/thrown.ts';

const CAPACITY = 2 ** 20 - 1;

function compile(rules: readonly Rule[]): CompiledRules {
  return compileRules(rules, assignSlots(new Map(), rules, CAPACITY));
}

function udpFlow(src: string, dst: string, sport: number, dport: number): Flow {
  return { direction: 'ingress', src: parseAddress(src), dst: parseAddress(dst), sport, dport, proto: 17 };
}

describe('compiled rules', () => {
  it('give every packet the rule that a plain look at all rules gives', function () {
    this.timeout(0);
    let matched = 0;
    let missed = 0;
    let refused = 0;
    const property = fc.property(
      ruleSets(300).chain((rules) =>
        fc.tuple(fc.constant(rules), fc.array(flowsNear(rules), { minLength: 30, maxLength: 60, size: 'max' })),
      ),
      ([rules, flows]) => {
        const needed = Math.max(countShapes(rules, 'ingress'), countShapes(rules, 'egress'));
        const slots = assignSlots(new Map(), rules, CAPACITY);
        if (needed > 128) {
          refused++;
          const { shapes } = thrownBy(() => compileRules(rules, slots)).details;
          assert.equal(shapes, needed);
          return;
        }
        const compiled = compileRules(rules, slots);
        assert.equal(compiled.ingress.length, countShapes(rules, 'ingress'));
        assert.equal(compiled.egress.length, countShapes(rules, 'egress'));
        const search = compiledMatcher(compiled);
        for (const flow of flows) {
          const expected = matchRules(rules, flow);
          const found = search(flow);
          if (expected === undefined) missed++;
          else matched++;
          assert.equal(found?.slot, expected === undefined ? undefined : slots.get(expected.id));
        }
      },
    );
    fc.assert(property, { numRuns: 300 });
    // The property means something only if its inputs are of every kind.
    assert.ok(matched > 1000 && missed > 100, `${matched} matched, ${missed} did not, ${refused} sets refused`);
  });

  it('stand in ascending order of their shapes, every key inside its shape', () => {
    fc.assert(
      fc.property(ruleSets(60), (rules) => {
        fc.pre(Math.max(countShapes(rules, 'ingress'), countShapes(rules, 'egress')) <= 128);
        const compiled = compile(rules);
        for (const shapes of [compiled.ingress, compiled.egress]) {
          const orders = shapes.map((shape) => shape.bestOrder);
          assert.deepEqual(
            orders,
            orders.toSorted((a, b) => a - b),
          );
        }
        const seen = new Set<string>();
        for (const { key, order } of decodeEntries(compiled)) {
          const shape = (key.direction === 0 ? compiled.ingress : compiled.egress)[key.shape]!;
          assert.ok(key.src.bytes.every((byte, index) => (byte & ~shape.srcMask.bytes[index]!) === 0));
          assert.ok(key.dst.bytes.every((byte, index) => (byte & ~shape.dstMask.bytes[index]!) === 0));
          assert.equal(key.sport & ~shape.sportMask, 0);
          assert.equal(key.dport & ~shape.dportMask, 0);
          assert.equal(key.proto & ~shape.protoMask, 0);
          assert.ok(order >= shape.bestOrder);
          seen.add(Buffer.from(VnicRuleKey.encode(key)).toString('hex'));
        }
        assert.equal(seen.size, compiled.entryCount, 'keys are unique');
      }),
    );
  });

  it('rank by priority, then specificity, then id', () => {
    const rules = parseRules([
      { id: 1, match: {}, action: 'drop' },
      { id: 2, match: { src: '10.0.0.0/8' }, action: 'pass' },
      { id: 9, match: { src: '10.1.0.0/16' }, action: 'pass' },
      { id: 4, match: { src: '10.2.0.0/16' }, action: 'pass' },
      { id: 5, priority: 1, match: { proto: 'udp' }, action: 'pass' },
      { id: 6, match: { src: '10.1.0.0/16', proto: 'udp', dstPort: '0-32768' }, action: 'pass' },
      { id: 7, match: { src: '10.1.0.0/16', proto: 'udp', dstPort: '0-32767' }, action: 'pass' },
      { id: 8, match: { src: '10.1.0.0/16', proto: 'udp', dstPort: 53 }, action: 'pass' },
    ]);
    const compiled = compile(rules);
    const orderOf = new Map(decodeActions(compiled).map((action) => [action.slot, action.ruleId]));
    const ranked = decodeEntries(compiled).toSorted((a, b) => a.order - b.order);
    assert.deepEqual([...new Set(ranked.map((entry) => orderOf.get(entry.slot)))], [5, 8, 7, 6, 4, 9, 2, 1]);
  });

  it('end the search as soon as no later shape can win', () => {
    const rules = parseRules([
      { id: 1, priority: 9, match: { src: '10.0.0.0/8' }, action: 'drop' },
      { id: 2, priority: 5, match: { dst: '10.0.0.0/8' }, action: 'drop' },
      { id: 3, priority: 1, match: {}, action: 'pass' },
    ]);
    const search = compiledMatcher(compile(rules));
    assert.equal(search(udpFlow('10.0.0.1', '11.0.0.1', 1, 1))?.lookups, 1);
    assert.equal(search(udpFlow('11.0.0.1', '11.0.0.1', 1, 1))?.lookups, 3);
  });

  it('keep IPv4 and IPv6 apart: 0.0.0.0/0 is any IPv4, no prefix is any packet', () => {
    const v4 = parseRule({ id: 1, match: { src: '0.0.0.0/0' }, action: 'drop' });
    const any = parseRule({ id: 2, action: 'drop' });
    const matches = (rule: Rule, src: string, dst: string) =>
      compiledMatcher(compile([rule]))(udpFlow(src, dst, 1, 1)) !== undefined;
    assert.equal(matches(v4, '192.0.2.1', '192.0.2.2'), true);
    assert.equal(matches(v4, '2001:db8::1', '2001:db8::2'), false);
    assert.equal(matches(any, '192.0.2.1', '192.0.2.2'), true);
    assert.equal(matches(any, '2001:db8::1', '2001:db8::2'), true);
  });

  it('leave the better rule in the table when two match the same', () => {
    const rules = parseRules([
      { id: 3, match: { src: '10.0.0.0/8' }, action: 'drop' },
      { id: 2, match: { src: '10.0.0.0/8' }, action: 'pass' },
    ]);
    const compiled = compile(rules);
    assert.equal(compiled.entryCount, 1);
    const [entry] = decodeEntries(compiled);
    assert.equal(decodeActions(compiled).find((action) => action.slot === entry?.slot)?.ruleId, 2);
  });

  it('are refused as a whole when they need more shapes, and the rarest rules are named', () => {
    // 129 shapes: 128 of many rules, and one that only rule 77777 uses.
    const rules: Rule[] = [];
    for (let bits = 1; bits <= 32; bits++) {
      for (const dstBits of [8, 16, 24, 32]) {
        for (const half of [0, 128]) {
          const src = parseRule({ id: 1, match: { src: `${half}.0.0.0/${bits}` }, action: 'drop' }).match.src!;
          const dst = parseRule({ id: 1, match: { dst: `10.0.0.0/${dstBits}` }, action: 'drop' }).match.dst!;
          rules.push({ ...parseRule({ id: rules.length + 1, action: 'drop' }), match: { src, dst } });
        }
      }
    }
    assert.equal(compile(rules).ingress.length, 128);
    const extra = parseRule({ id: 77777, match: { proto: 'gre' }, action: 'drop' });
    const elsewhere = parseRule({ id: 77778, direction: 'egress', match: { proto: 'gre' }, action: 'drop' });
    assert.equal(compile([...rules, elsewhere]).egress.length, 1);
    const error = thrownBy(() => compile([...rules, extra]));
    assert.equal(error.code, 'too_many_shapes');
    assert.deepEqual(error.details, { direction: 'ingress', shapes: 129, maxShapes: 128, ruleIds: [77777] });
    assert.match(error.message, /129 shapes.*128.*rule 77777/);
  });

  it('are refused when port ranges need more entries than the table holds', () => {
    const wide = { proto: 'udp', srcPort: '1-32766', dstPort: 53 };
    const rules = parseRules([1, 2, 3].map((id) => ({ id, match: { ...wide, src: `10.0.0.${id}` }, action: 'drop' })));
    const slots = assignSlots(new Map(), rules, CAPACITY);
    assert.equal(compileRules(rules, slots, { maxEntries: 3 * 28 }).entryCount, 84);
    const error = thrownBy(() => compileRules(rules, slots, { maxEntries: 83 }));
    assert.equal(error.code, 'capacity_exceeded');
    assert.match(error.message, /84 table entries.*83/);
  });

  for (const count of [10_000, 100_000]) {
    it(`hold ${count} rules, each found by its own packet`, function () {
      this.timeout(0);
      const rules = manyRules(count);
      const started = performance.now();
      const warnings = validateRules(rules);
      const validated = performance.now();
      const compiled = compile(rules);
      const compiledAt = performance.now();
      const times = `validate ${Math.round(validated - started)} ms, compile ${Math.round(compiledAt - validated)} ms`;
      this.test!.title += ` (${times})`;
      assert.deepEqual(warnings, []);
      assert.equal(compiled.actionSlots.length, count);
      const search = compiledMatcher(compiled);
      const ids = decodeActions(compiled);
      const idOfSlot = new Map(ids.map((action) => [action.slot, action.ruleId]));
      for (let index = 0; index < count; index += 97) {
        const rule = rules[index]!;
        const flow: Flow = {
          direction: rule.direction,
          src: rule.match.src!.address,
          dst: rule.match.dst?.address ?? parseAddress('203.0.113.1'),
          sport: 4000,
          dport: rule.match.dstPort?.first ?? 9,
          proto: rule.match.proto ?? 6,
        };
        assert.equal(idOfSlot.get(search(flow)!.slot), rule.id);
      }
    });
  }
});

/** Hosts, networks and port ranges, no two alike. */
function manyRules(count: number): Rule[] {
  return Array.from({ length: count }, (_, index) => {
    const a = (index >> 16) & 0xff;
    const b = (index >> 8) & 0xff;
    const c = index & 0xff;
    const user = [
      { match: { src: `10.${a}.${b}.${c}` } },
      { match: { src: `11.${a}.${b}.${c}`, dst: '192.0.2.0/24', proto: 'tcp', dstPort: 443 } },
      { match: { src: `fd00:${a}:${b}:${c}::/64` }, direction: 'egress' },
      { match: { src: `12.${a}.${b}.${c}`, proto: 'udp', dstPort: '1024-2047' } },
    ][index % 4]!;
    return parseRule({ id: index + 1, action: 'pass', limit: { rate: '10mbit' }, ...user });
  });
}

describe('port ranges', () => {
  it('become prefixes that hold exactly the range, none of which could be joined', () => {
    fc.assert(
      fc.property(fc.nat(65535), fc.nat(65535), (a, b) => {
        const range = { first: Math.min(a, b), last: Math.max(a, b) };
        let next = range.first;
        const prefixes = portPrefixes(range);
        for (const { value, bits } of prefixes) {
          assert.equal(value, next, 'no gap, no overlap');
          assert.equal(value & portMask(bits), value, 'aligned');
          next = value + 2 ** (16 - bits);
        }
        assert.equal(next, range.last + 1);
        for (const [index, { value, bits }] of prefixes.entries()) {
          const sibling = prefixes[index + 1];
          const joins = sibling?.bits === bits && (value & portMask(bits - 1)) === value;
          assert.ok(!joins, 'two siblings stand for one prefix');
        }
      }),
    );
  });

  it('cover all ports with one prefix and a single port with one', () => {
    assert.deepEqual(portPrefixes({ first: 0, last: 65535 }), [{ value: 0, bits: 0 }]);
    assert.deepEqual(portPrefixes({ first: 53, last: 53 }), [{ value: 53, bits: 16 }]);
    assert.equal(portPrefixes({ first: 1, last: 65534 }).length, 30);
  });
});
