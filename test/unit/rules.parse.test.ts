// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parse as parseYaml, stringify as stringifyYaml } from 'yaml';
import { formatRule } from '../../src/steering/rules/format.ts';
import type { Rule } from '../../src/steering/rules/model.ts';
import { parseQosLine, parseRule, parseRules } from '../../src/steering/rules/parse.ts';
import { formatPrefix, parsePrefix } from '../../src/steering/rules/prefix.ts';
import type { Problem } from '../../src/steering/rules/problems.ts';
import { validateRules } from '../../src/steering/rules/validate.ts';
import { thrownBy } from '../support/thrown.ts';
import { validRules } from '../support/valid-rules.ts';

/** The problems of a rule that is right but for `fields`. */
function problemsOf(fields: Record<string, unknown>): Problem[] {
  const error = thrownBy(() => parseRule({ id: 1, action: 'pass', ...fields }));
  assert.equal(error.code, 'invalid_rule');
  const { problems } = error.details;
  return problems as Problem[];
}

function assertRefused(fields: Record<string, unknown>, path: string, message: RegExp, remedy: RegExp): void {
  const problems = problemsOf(fields);
  assert.equal(problems.length, 1, JSON.stringify(problems));
  assert.equal(problems[0]!.path, path);
  assert.match(problems[0]!.message, message);
  assert.match(problems[0]!.remedy, remedy);
}

const documented = `
{id: 7, priority: 100, match: {src: 10.1.0.0/16, dst: 0.0.0.0/0, proto: udp, srcPort: "1024-65535", dstPort: 53},
 action: pass, limit: {rate: 10mbit, burst: 64kb, scope: flow}, queues: [3, 4], shadow: false}`;

describe('a rule as written', () => {
  it('is read from YAML as from JSON', () => {
    const user: unknown = parseYaml(documented);
    const rule = parseRule(user);
    assert.deepEqual(rule, {
      id: 7,
      priority: 100,
      direction: 'ingress',
      match: {
        src: parsePrefix('10.1.0.0/16'),
        dst: parsePrefix('0.0.0.0/0'),
        proto: 17,
        srcPort: { first: 1024, last: 65535 },
        dstPort: { first: 53, last: 53 },
      },
      action: 'pass',
      limit: { rate: { bitsPerSecond: 10_000_000 }, burst: { bytes: 65_536 }, scope: 'flow', mode: 'police' },
      queues: [3, 4],
      shadow: false,
    } satisfies Rule);
    assert.deepEqual(parseRule(JSON.parse(JSON.stringify(user))), rule);
  });

  it('needs only an id and an action', () => {
    const rule: Rule = { id: 1, priority: 0, direction: 'ingress', match: {}, action: 'drop', shadow: false };
    assert.deepEqual(parseRule({ id: 1, action: 'drop' }), rule);
  });

  it('takes queues in any order', () => {
    assert.deepEqual(parseRule({ id: 1, action: 'pass', queues: [9, 3] }).queues, [3, 9]);
  });

  it('comes back the same after being written out, through JSON and YAML', () => {
    fc.assert(
      fc.property(validRules(), (rule) => {
        const user = formatRule(rule);
        assert.deepEqual(parseRule(JSON.parse(JSON.stringify(user))), rule);
        assert.deepEqual(parseRule(parseYaml(stringifyYaml(user))), rule);
        assert.deepEqual(formatRule(parseRule(user)), user, 'canonical');
      }),
      { numRuns: 500 },
    );
  });
});

describe('a rule that is wrong', () => {
  it('has its unknown fields refused, with their path and the known ones', () => {
    assertRefused({ prio: 5 }, 'prio', /unknown field "prio"/, /id, priority, direction/);
    assertRefused({ match: { sport: 5 } }, 'match.sport', /unknown field/, /srcPort, dstPort/);
    assertRefused({ action: 'pass', limit: { rate: '1mbit', unit: 1 } }, 'limit.unit', /unknown field/, /rate, burst/);
  });

  it('has fields of the wrong kind or out of range refused', () => {
    assertRefused({ id: undefined }, 'id', /is missing/, /whole number from 1 to 2147483647/);
    for (const id of [0, 2 ** 31, 1.5, '7', null, -1]) {
      assertRefused({ id }, 'id', /is not a whole number from 1 to 2147483647/, /from 1 to 2147483647/);
    }
    assertRefused({ priority: -1 }, 'priority', /-1 is not a whole number from 0/, /from 0 to 2147483647/);
    assertRefused({ action: 'reject' }, 'action', /"reject" is not one of pass, drop/, /pass, drop/);
    assertRefused({ direction: 'in' }, 'direction', /"in" is not one of ingress, egress/, /ingress/);
    assertRefused({ shadow: 'yes' }, 'shadow', /"yes" is not true or false/, /true or false/);
    assertRefused({ match: [] }, 'match', /is not an object with the fields src/, /object/);
    assertRefused({ match: { src: 10 } }, 'match.src', /10 is not a prefix/, /10\.1\.0\.0\/16/);
    assertRefused({ match: { proto: {} } }, 'match.proto', /is not a protocol/, /protocol/);
    assertRefused({ queues: '3' }, 'queues', /is not a list of queue numbers/, /list/);
    assertRefused({ queues: [64] }, 'queues[0]', /64 is not a whole number from 0 to 63/, /0 to 63/);
    assertRefused({ queues: [] }, 'queues', /empty/, /leave the field out/);
    assertRefused({ queues: [3, 4, 3] }, 'queues', /twice/, /\[3, 4\]/);
    assert.equal(thrownBy(() => parseRule('7')).code, 'invalid_rule');
    assert.equal(thrownBy(() => parseRule(null)).code, 'invalid_rule');
  });

  it('has bad prefixes refused; host bits with the corrected prefix', () => {
    assertRefused({ match: { src: '10.1.2.3/16' } }, 'match.src', /host bits/, /10\.1\.0\.0\/16 .* 10\.1\.2\.3\/32/);
    assertRefused({ match: { dst: 'fd00::1/8' } }, 'match.dst', /host bits/, /fd00::\/8 .* fd00::1\/128/);
    for (const src of [
      '10.1/16',
      '010.0.0.0/8',
      '10.0.0.0/33',
      '10.0.0.0/',
      '10.0.0.0/-1',
      'fd00::/129',
      '256.0.0.1',
    ]) {
      assertRefused({ match: { src } }, 'match.src', /is not an IPv4|has no prefix length/, /10\.1\.0\.0\/16/);
    }
    for (const src of ['', 'example.org', 'fe80::1%eth0', '1::2::3', 'fd00::/8/8', '0x0a000001', '1.2.3.4.5', ':']) {
      assertRefused({ match: { src } }, 'match.src', /is not an IPv4|has no prefix length/, /Write a prefix/);
    }
  });

  it('has families that never meet refused', () => {
    assertRefused({ match: { src: '10.0.0.0/8', dst: 'fd00::/8' } }, 'match', /IPv4 but dst is IPv6/, /two rules/);
  });

  it('has an IPv6 prefix that takes in IPv4 refused unless the other side says IPv6', () => {
    assertRefused({ match: { src: '::/0' } }, 'match.src', /would match IPv4 as well/, /2000::\/3/);
    assertRefused({ match: { dst: '::/64' } }, 'match.dst', /would match IPv4 as well/, /Leave it out/);
    assert.equal(problemsOf({ match: { src: '::/0', dst: '::/0' } }).length, 2);
    assert.equal(parseRule({ id: 1, action: 'drop', match: { src: 'fd00::/8', dst: '::/0' } }).match.dst?.bits, 0);
    assert.equal(parseRule({ id: 1, action: 'drop', match: { src: '8000::/1' } }).match.src?.bits, 1);
  });

  it('has ports without a protocol that has ports refused', () => {
    assertRefused({ match: { dstPort: 53 } }, 'match.dstPort', /no proto is given/, /Set proto to tcp, udp, sctp/);
    assertRefused({ match: { proto: 'icmp', srcPort: 1 } }, 'match.srcPort', /icmp has no ports/, /Set proto/);
    for (const proto of ['tcp', 'udp', 'sctp', 'dccp', 'udplite', 6, '17']) {
      assert.deepEqual(parseRule({ id: 1, action: 'pass', match: { proto, dstPort: '53' } }).match.dstPort, {
        first: 53,
        last: 53,
      });
    }
  });

  it('has bad ports refused', () => {
    const withPort = (dstPort: unknown) => ({ match: { proto: 'udp', dstPort } });
    assertRefused(withPort('2000-1000'), 'match.dstPort', /ends before it starts/, /1000-2000/);
    for (const bad of [65536, -1, 1.5, '1024-', 'http', '', '1-70000', '1-2-3']) {
      assertRefused(withPort(bad), 'match.dstPort', /is not a port/, /0 to 65535/);
    }
  });

  it('has bad protocols refused', () => {
    for (const proto of ['tpc', 256, -1, 6.5, '', '999']) {
      assertRefused({ match: { proto } }, 'match.proto', /is not an IP protocol/, /tcp, udp/);
    }
    const numbers = ['tcp', 'UDP', 'icmp', 'icmpv6', 'ipv6-icmp', 'sctp', 'gre', 'esp', 'ah', 0, 255, '47'].map(
      (proto) => parseRule({ id: 1, action: 'pass', match: { proto } }).match.proto,
    );
    assert.deepEqual(numbers, [6, 17, 1, 58, 58, 132, 47, 50, 51, 0, 255, 47]);
  });

  it('may not limit or steer what it drops', () => {
    assertRefused(
      { action: 'drop', limit: { rate: '1mbit' } },
      'limit',
      /drops its packets has no use/,
      /Remove limit/,
    );
    assertRefused({ action: 'drop', queues: [1] }, 'queues', /drops its packets has no use/, /Remove queues/);
  });

  it('may not shape what arrives', () => {
    const limit = { rate: '1mbit', mode: 'shape' };
    assertRefused({ limit }, 'limit.mode', /cannot be shaped/, /police or egress/);
    assert.equal(parseRule({ id: 1, action: 'pass', direction: 'egress', limit }).limit?.mode, 'shape');
  });

  it('has all its problems told at once, and so have all rules of a list', () => {
    const bad = { id: 0, match: { src: 'x' }, action: 'pass' };
    const worse = { id: 1, match: { src: 'x', proto: 'y' }, limit: { rate: 'z' }, action: 'pass' };
    const error = thrownBy(() => parseRules([bad, { id: 2, action: 'pass' }, worse]));
    const { problems } = error.details;
    const paths = (problems as Problem[]).map(({ path }) => path);
    assert.deepEqual(paths, [
      'rules[0].id',
      'rules[0].match.src',
      'rules[2].match.src',
      'rules[2].match.proto',
      'rules[2].limit.rate',
    ]);
    assert.match(error.message, /5 problems, the first: rules\[0\]\.id: 0 is not/);
    assert.equal(thrownBy(() => parseRules({})).code, 'invalid_rule');
  });
});

describe('prefixes', () => {
  it('are canonical, IPv4 and IPv6 in one 128-bit space', () => {
    const forms: [string, string, number][] = [
      ['10.1.0.0/16', '10.1.0.0/16', 112],
      ['10.1.2.3', '10.1.2.3/32', 128],
      ['0.0.0.0/0', '0.0.0.0/0', 96],
      ['FD00:A:0:0::/32', 'fd00:a::/32', 32],
      ['fd00::1', 'fd00::1/128', 128],
      ['::ffff:10.0.0.0/104', '10.0.0.0/8', 104],
      ['::ffff:0:0/96', '0.0.0.0/0', 96],
      ['2000::/3', '2000::/3', 3],
    ];
    for (const [text, canonical, bits] of forms) {
      const prefix = parsePrefix(text);
      assert.equal(formatPrefix(prefix), canonical);
      assert.equal(prefix.bits, bits);
      assert.deepEqual(parsePrefix(canonical), prefix);
    }
  });
});

describe('a rule set', () => {
  const rule = (id: number, fields: Record<string, unknown> = {}) => parseRule({ id, action: 'pass', ...fields });

  it('with problems without end names the first thousand, and says that there are more', () => {
    const error = thrownBy(() =>
      parseRules([...Array.from({ length: 100_000 }, () => null), { id: 1, action: 'pass' }]),
    );
    const problems = error.details['problems'] as { path: string; message: string }[];
    assert.equal(problems.length, 1001);
    assert.equal(problems[999]?.path, 'rules[999]');
    assert.match(problems[1000]?.message ?? '', /more problems/);
  });

  it('with an id used twice is refused', () => {
    const error = thrownBy(() => validateRules([rule(1), rule(2, { priority: 1 }), rule(1, { priority: 2 })]));
    assert.equal(error.code, 'invalid_rule');
    assert.match(error.message, /rules\[2\]\.id: rule id 1 is used twice/);
  });

  it('that names queues the device has not is refused', () => {
    const rules = [rule(1, { queues: [3, 8, 9] })];
    const error = thrownBy(() => validateRules(rules, { queues: 8 }));
    assert.match(error.message, /rules\[0\]\.queues: rule 1 names queue 8, 9, but the device has 8 queues/);
    assert.match(error.remedy ?? '', /0 to 7/);
    assert.deepEqual(validateRules(rules, { queues: 10 }), []);
    assert.deepEqual(validateRules(rules), []);
  });

  it('with more rules than the dataplane holds is refused', () => {
    const rules = [rule(1), rule(2, { match: { proto: 'tcp' } })];
    assert.equal(thrownBy(() => validateRules(rules, { maxRules: 1 })).code, 'capacity_exceeded');
    assert.deepEqual(validateRules(rules, { maxRules: 2 }), []);
  });
});

describe('a line of the QoS agent', () => {
  it('is a rule id and kbit/s', () => {
    assert.deepEqual(parseQosLine('{"flow_id":1,"rate":10000}'), { ruleId: 1, bitsPerSecond: 10_000_000 });
    assert.deepEqual(parseQosLine(' {"rate": 1.5, "flow_id": 2147483647}\n'), {
      ruleId: 2147483647,
      bitsPerSecond: 1500,
    });
  });

  it('that is wrong is refused, and says why', () => {
    const lines: [string, RegExp][] = [
      ['', /not a JSON line/],
      ['flow 1', /not a JSON line/],
      ['[]', /is not an object/],
      ['{"flow_id":0,"rate":1}', /flow_id: 0 is not a whole number/],
      ['{"flow_id":1}', /rate: is missing/],
      ['{"flow_id":1,"rate":"10mbit"}', /rate: "10mbit" is not a rate in kbit/],
      ['{"flow_id":1,"rate":0}', /outside 1kbit to 400gbit/],
      ['{"flow_id":1,"rate":-5}', /rate/],
      ['{"flow_id":1,"rate":10,"burst":1}', /unknown field "burst"/],
    ];
    for (const [line, message] of lines) {
      const error = thrownBy(() => parseQosLine(line));
      assert.equal(error.code, 'invalid_rule');
      assert.match(error.message, message);
    }
  });
});
