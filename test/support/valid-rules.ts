// SPDX-License-Identifier: Apache-2.0
/** Rules with everything that a rule can say, each valid by itself. */
import fc from 'fast-check';
import type { Burst, Limit, Match, Rate, Rule } from '../../src/steering/rules/model.ts';
import { coversAllIpv4, familyOf, makePrefix } from '../../src/steering/rules/prefix.ts';

export function validRules(): fc.Arbitrary<Rule> {
  const prefixOf = (family: 4 | 6) =>
    fc
      .record({ bytes: fc.uint8Array({ minLength: 16, maxLength: 16 }), bits: fc.integer({ min: 0, max: 128 }) })
      .map(({ bytes, bits }) => {
        if (family === 6) return makePrefix(bytes, bits);
        return makePrefix(new Uint8Array([...new Uint8Array(10), 255, 255, ...bytes.subarray(12)]), 96 + (bits % 33));
      })
      .filter((prefix) => familyOf(prefix) === family && !coversAllIpv4(prefix));
  const port = fc
    .tuple(fc.nat(65535), fc.nat(65535))
    .map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));
  const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
  const match: fc.Arbitrary<Match> = fc.constantFrom(4 as const, 6 as const).chain((family) =>
    fc
      .record({
        src: maybe(prefixOf(family)),
        dst: maybe(prefixOf(family)),
        proto: maybe(fc.oneof(fc.nat(255), fc.constantFrom(6, 17, 132))),
        srcPort: maybe(port),
        dstPort: maybe(port),
      })
      .map((fields) => {
        const ported = [6, 17, 33, 132, 136].includes(fields.proto ?? 0);
        const { srcPort, dstPort, ...rest } = fields;
        return defined(ported ? { ...rest, srcPort, dstPort } : rest) as Match;
      }),
  );
  const limit: fc.Arbitrary<Limit> = fc
    .record({
      kind: fc.oneof(
        fc.record<{ rate: Rate; burst: Burst }>({
          rate: fc.integer({ min: 1000, max: 400e9 }).map((bitsPerSecond) => ({ bitsPerSecond })),
          burst: fc.integer({ min: 1, max: 2 ** 32 - 1 }).map((bytes) => ({ bytes })),
        }),
        fc.record<{ rate: Rate; burst: Burst }>({
          rate: fc.integer({ min: 1, max: 400e6 }).map((packetsPerSecond) => ({ packetsPerSecond })),
          burst: fc.integer({ min: 1, max: 2 ** 24 }).map((packets) => ({ packets })),
        }),
      ),
      scope: fc.constantFrom('rule' as const, 'flow' as const),
      mode: fc.constantFrom('police' as const, 'shape' as const),
    })
    .map(({ kind, scope, mode }) => ({ ...kind, scope, mode }));
  return fc
    .record({
      id: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      priority: fc.nat(2 ** 31 - 1),
      direction: fc.constantFrom('ingress' as const, 'egress' as const),
      match,
      action: fc.constantFrom('pass' as const, 'drop' as const),
      limit: maybe(limit),
      queues: maybe(
        fc.uniqueArray(fc.nat(63), { minLength: 1, maxLength: 64 }).map((queues) => queues.toSorted((a, b) => a - b)),
      ),
      shadow: fc.boolean(),
    })
    .map((rule) => {
      const { limit: asked, queues, ...rest } = rule;
      if (rule.action === 'drop') return rest as Rule;
      const mode = rule.direction === 'ingress' ? 'police' : asked?.mode;
      return defined({
        ...rest,
        limit: asked === undefined ? undefined : { ...asked, mode },
        queues,
      }) as unknown as Rule;
    });
}

function defined(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
