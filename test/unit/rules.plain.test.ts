// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { formatIpv4, formatIpv6, parseIpv6, readIpv4 } from '../../src/steering/rules/address-text.ts';
import { formatRule } from '../../src/steering/rules/format.ts';
import { readAnyRule } from '../../src/steering/rules/parse.ts';
import { readPlainRule } from '../../src/steering/rules/plain-rule.ts';
import { ProblemList } from '../../src/steering/rules/problems.ts';
import { validRules } from '../support/valid-rules.ts';

/** What a user may put in a field, right or wrong, in this place or another. */
const groups: readonly (readonly unknown[])[] = [
  [undefined, null, true, false, 0, -0, 1, -1, 1.5, 63, 64, 255, 256, 65535, 65536, 2 ** 31 - 1, 2 ** 31, 1e21],
  [Number.NaN, Number.POSITIVE_INFINITY, '', ' ', '0', '6', '006', 'tcp', 'TCP', 'icmp', 'esp', 'nosuch', '53'],
  ['1-2', '2-1', '0-65535', ' 1 - 2 ', '1-', '10.0.0.0/8', '10.0.0.1/8', '10.1', '010.0.0.1', '10.0.0.1/33'],
  ['::/0', '::/96', '::ffff:10.0.0.0/104', '::ffff:a00:0/104', 'fd00::/8', 'FD00::/8', 'fd00::1', 'fe80::1%eth0'],
  ['1::2::3', '10mbit', '10 mbit', '10kpps', '1bit', '500gbit', '10%', '64kb', '20 pkts', 'ingress', 'egress'],
  ['pass', 'drop', 'rule', 'flow', 'police', 'shape', [], [0], [3, 1], [1, 1], [64], ['1'], [null], [1.5], {}],
  [{ rate: '1mbit' }, { rate: '1kpps', burst: '1kb' }, { rate: 1e6, mode: 'shape' }, { src: '10.0.0.0/8' }],
  [{ proto: 'udp', dstPort: 53 }, { dstPort: 53 }, new Date(0), new Map(), Object.create({ rate: '1mbit' })],
];
const values = groups.flat();
const names =
  'id priority direction match action limit queues shadow nosuch __proto__ toString src dst proto srcPort dstPort rate burst scope mode'.split(
    ' ',
  );

interface Edit {
  where: 'rule' | 'match' | 'limit';
  name: string;
  /** `delete`: the field goes. */
  value: unknown;
}

const edits: fc.Arbitrary<Edit[]> = fc.array(
  fc.record({
    where: fc.constantFrom('rule' as const, 'match' as const, 'limit' as const),
    name: fc.constantFrom(...names),
    value: fc.oneof(fc.constantFrom<unknown>('delete', ...values), fc.anything()),
  }),
  { maxLength: 3 },
);

function edited(rule: Record<string, unknown>, changes: readonly Edit[]): unknown {
  const copy: Record<string, unknown> = { ...rule };
  for (const { where, name, value } of changes) {
    const at = where === 'rule' ? copy : { ...(copy[where] as object | undefined) };
    if (value === 'delete') Reflect.deleteProperty(at, name);
    // As JSON.parse does it: also "__proto__" becomes a field of its own.
    else Object.defineProperty(at, name, { value, enumerable: true, configurable: true, writable: true });
    if (where !== 'rule') copy[where] = at;
  }
  return copy;
}

describe('the short way to read a rule', () => {
  it('takes every rule as it is written out', () => {
    fc.assert(
      fc.property(validRules(), (rule) => {
        assert.deepEqual(readPlainRule(JSON.parse(JSON.stringify(formatRule(rule)))), rule);
      }),
      { numRuns: 1000 },
    );
  });

  it('takes nothing that the schema refuses, and means the same by what it takes', function () {
    this.timeout(60_000);
    let taken = 0;
    let refused = 0;
    const property = fc.property(validRules(), edits, (rule, changes) => {
      const input = edited(formatRule(rule) as unknown as Record<string, unknown>, changes);
      const plain = readPlainRule(input);
      if (plain === undefined) {
        refused++;
        return;
      }
      taken++;
      const problems = new ProblemList();
      assert.deepEqual(plain, readAnyRule(input, [], problems));
      assert.deepEqual(problems.problems, []);
    });
    fc.assert(property, { numRuns: 10_000 });
    assert.ok(taken > 1000 && refused > 1000, `${taken} taken, ${refused} left to the schema`);
  });

  it('takes no value in any field that the schema refuses', () => {
    let taken = 0;
    const base = { id: 1, direction: 'egress', match: { proto: 'udp' }, action: 'pass', limit: { rate: '1mbit' } };
    for (const where of ['rule', 'match', 'limit'] as const) {
      for (const name of names) {
        for (const value of values) {
          const input = edited(base, [{ where, name, value }]);
          const plain = readPlainRule(input);
          if (plain === undefined) continue;
          taken++;
          const problems = new ProblemList();
          assert.deepEqual(plain, readAnyRule(input, [], problems), `${where}.${name} ${String(value)}`);
          assert.deepEqual(problems.problems, [], `${where}.${name} ${String(value)}`);
        }
      }
    }
    assert.ok(taken > 50, String(taken));
    for (const value of values) {
      const problems = new ProblemList();
      const plain = readPlainRule(value);
      if (plain !== undefined) assert.deepEqual(plain, readAnyRule(value, [], problems));
      assert.deepEqual(problems.problems, []);
    }
  });
});

describe('addresses as text', () => {
  const octets = fc.uint8Array({ minLength: 16, maxLength: 16 });
  /** Long and short runs of zeroes. */
  const sparse = fc
    .tuple(octets, fc.uint8Array({ minLength: 16, maxLength: 16 }))
    .map(([bytes, mask]) => bytes.map((byte, index) => (mask[index & ~1]! < 140 ? 0 : byte)));

  it('are written as RFC 5952 has them', () => {
    fc.assert(
      fc.property(fc.oneof(octets, sparse), (bytes) => {
        const expected = new ipaddr.IPv6(Array.from(bytes)).toRFC5952String();
        assert.equal(formatIpv6(bytes), expected);
        assert.deepEqual(parseIpv6(expected), bytes);
        assert.deepEqual(parseIpv6(expected.toUpperCase()), bytes);
      }),
      { numRuns: 5000 },
    );
  });

  it('are read as ipaddr.js reads them, and refused where it refuses them', () => {
    let valid = 0;
    const part = fc.constantFrom(
      ':',
      ':',
      '::',
      '0',
      'f',
      'A',
      'fd00',
      '00001',
      '1',
      '10',
      '10.0.0.1',
      '.',
      '%',
      'g',
      '-',
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 18, size: 'max' }), (parts) => {
        const text = parts.join('');
        const expected =
          text.includes(':') && !text.includes('%') && ipaddr.IPv6.isValid(text)
            ? Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray())
            : undefined;
        if (expected !== undefined) valid++;
        assert.deepEqual(parseIpv6(text), expected, text);
      }),
      { numRuns: 30_000 },
    );
    assert.ok(valid > 300, `${valid} valid`);
  });

  it('of IPv4 have four whole octets without leading zeroes', () => {
    const octet = fc.constantFrom('0', '1', '25', '99', '255', '255', '256', '01', '', 'a', ' 1', '1000');
    let valid = 0;
    fc.assert(
      fc.property(fc.array(octet, { minLength: 3, maxLength: 5 }), (parts) => {
        const text = parts.join('.');
        const bytes = new Uint8Array(16);
        const isValid =
          /^(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}$/.test(text) &&
          text.split('.').every((octet) => Number(octet) <= 255);
        if (isValid) valid++;
        assert.equal(readIpv4(text, bytes, 12), isValid, text);
        if (isValid) assert.equal(formatIpv4(bytes), text);
      }),
      { numRuns: 30_000 },
    );
    assert.ok(valid > 300, `${valid} valid`);
    assert.equal(readIpv4('10.0.0.1\n', new Uint8Array(16), 12), false);
  });
});
