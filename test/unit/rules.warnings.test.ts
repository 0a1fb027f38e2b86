// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseRules } from '../../src/steering/rules/parse.ts';
import { matchRules } from '../../src/steering/rules/reference.ts';
import { validateRules } from '../../src/steering/rules/validate.ts';
import { countShapes, flowsNear, ruleSets } from '../support/rules.ts';

describe('warnings about a rule set', () => {
  const warn = (...rules: unknown[]) =>
    validateRules(parseRules(rules)).map(({ code, ruleIds }) => `${code} ${ruleIds.join()}`);

  it('name a rule that another one hides', () => {
    const wide = { id: 1, priority: 5, match: { src: '10.0.0.0/8' }, action: 'drop' };
    const narrow = { id: 2, match: { src: '10.1.0.0/16', proto: 'udp', dstPort: '1000-2000' }, action: 'pass' };
    assert.deepEqual(warn(wide, narrow), ['unreachable_rule 2,1']);
    assert.deepEqual(warn({ ...wide, priority: 0 }, narrow), []);
    assert.deepEqual(warn({ ...wide, direction: 'egress' }, narrow), []);
    assert.deepEqual(warn({ ...wide, match: { src: '10.1.0.0/17' } }, narrow), []);
  });

  it('name two rules with the same match', () => {
    const match = { dst: 'fd00::/8', proto: 'tcp', dstPort: '1-1000' };
    assert.deepEqual(warn({ id: 5, match, action: 'drop' }, { id: 4, match, action: 'pass' }), ['duplicate_match 5,4']);
  });

  it('name a rule whose port range two others share out between them', () => {
    const ports = (id: number, dstPort: string, priority: number) =>
      ({ id, priority, match: { proto: 'udp', dstPort }, action: 'drop' }) as const;
    assert.deepEqual(warn(ports(1, '0-1023', 9), ports(2, '1024-65535', 9), ports(3, '512-2047', 1)), [
      'matches_fragments 1',
      'unreachable_rule 3,1,2',
    ]);
    assert.deepEqual(warn(ports(1, '1-1023', 9), ports(2, '1024-65535', 9), ports(3, '512-2047', 1)), [
      'unreachable_rule 3,1,2',
    ]);
    assert.deepEqual(warn(ports(1, '1-1000', 9), ports(2, '1024-65535', 9), ports(3, '512-2047', 1)), []);
  });

  it('name ICMP of the wrong family', () => {
    assert.deepEqual(warn({ id: 1, match: { src: 'fd00::/8', proto: 'icmp' }, action: 'drop' }), ['wrong_icmp 1']);
    assert.deepEqual(warn({ id: 1, match: { src: '10.0.0.0/8', proto: 58 }, action: 'drop' }), ['wrong_icmp 1']);
    assert.deepEqual(warn({ id: 1, match: { src: '10.0.0.0/8', proto: 1 }, action: 'drop' }), []);
  });

  it('name an IPv6 extension header, behind which the protocol stands', () => {
    const rule = (src: string, proto: number) => ({ id: 1, match: { src, proto }, action: 'drop' });
    assert.deepEqual(warn(rule('fd00::/8', 60)), ['extension_header 1']);
    assert.deepEqual(warn(rule('fd00::/8', 51)), ['extension_header 1']);
    assert.deepEqual(warn(rule('10.0.0.0/8', 51)), []);
    assert.deepEqual(warn(rule('fd00::/8', 50)), []);
  });

  it('never name a rule that wins a packet', () => {
    let warned = 0;
    fc.assert(
      fc.property(
        ruleSets(60).chain((rules) =>
          fc.tuple(fc.constant(rules), fc.array(flowsNear(rules), { minLength: 50, maxLength: 50 })),
        ),
        ([rules, flows]) => {
          fc.pre(Math.max(countShapes(rules, 'ingress'), countShapes(rules, 'egress')) <= 128);
          const hidden = new Set(
            validateRules(rules)
              .filter(({ code }) => code === 'unreachable_rule' || code === 'duplicate_match')
              .map(({ ruleIds }) => ruleIds[0]),
          );
          warned += hidden.size;
          for (const flow of flows) assert.ok(!hidden.has(matchRules(rules, flow)?.id));
        },
      ),
    );
    assert.ok(warned > 0);
  });
});
