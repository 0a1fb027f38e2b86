// SPDX-License-Identifier: Apache-2.0
/**
 * Random rule sets and flows, biased so that rules match, overlap, tie and share shapes. A set draws its rules from a
 * few templates (which fields, which lengths), as real sets do, and its addresses and ports from small pools.
 */
import fc from 'fast-check';
import type { Direction, Flow, Match, PortRange, Rule } from '../../src/steering/rules/model.ts';
import { portPrefixes } from '../../src/steering/rules/ports.ts';
import { makePrefix, type Prefix, parseAddress } from '../../src/steering/rules/prefix.ts';

const v4Pool = ['10.0.0.0', '10.1.2.3', '10.1.2.2', '10.1.255.1', '10.129.0.1', '192.168.0.1'].map(parseAddress);
const v6Pool = ['fd00:a::1', 'fd00:a::2', 'fd00:b::1', 'fd80::1', '2001:db8::1', 'fd00:a:0:1::1'].map(parseAddress);
const v4Bits = [96, 104, 105, 112, 119, 120, 127, 128];
const v6Bits = [0, 8, 9, 16, 32, 33, 64, 127, 128];
const portRanges: PortRange[] = [
  [53, 53],
  [80, 80],
  [443, 443],
  [0, 1023],
  [1024, 65535],
  [1000, 2000],
  [80, 90],
  [32768, 65535],
  [0, 65535],
  [1, 4],
].map(([first, last]) => ({ first: first!, last: last! }));

interface Template {
  direction: Direction;
  family: 4 | 6;
  srcBits: number | undefined;
  dstBits: number | undefined;
  proto: boolean;
  srcPorts: PortRange[] | undefined;
  dstPorts: PortRange[] | undefined;
}

const portChoice = fc.option(fc.uniqueArray(fc.constantFrom(...portRanges), { minLength: 1, maxLength: 3 }), {
  nil: undefined,
  freq: 2,
});

function templates(): fc.Arbitrary<Template> {
  return fc.constantFrom(4 as const, 6 as const).chain((family) => {
    const bits = fc.option(fc.constantFrom(...(family === 4 ? v4Bits : v6Bits)), { nil: undefined, freq: 3 });
    return fc.record({
      direction: fc.constantFrom('ingress', 'ingress', 'egress'),
      family: fc.constant(family),
      srcBits: bits,
      dstBits: bits,
      proto: fc.boolean(),
      srcPorts: fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: portChoice }),
      dstPorts: portChoice,
    });
  });
}

function pick<T>(values: readonly T[], seed: number): T {
  return values[seed % values.length]!;
}

/** Rule sets with unique ids; not all of them fit the dataplane's shapes. */
export function ruleSets(maxRules: number): fc.Arbitrary<Rule[]> {
  return fc.array(templates(), { minLength: 1, maxLength: 8 }).chain((shapes) =>
    fc
      .array(fc.tuple(fc.nat(1000), fc.nat(1000), fc.nat(1000), fc.nat(1000), fc.nat(20)), {
        minLength: 1,
        maxLength: maxRules,
        size: 'max',
      })
      .map((seeds) =>
        seeds.map(([template, src, dst, ports, priority], index) => {
          const t = pick(shapes, template);
          const pool = t.family === 4 ? v4Pool : v6Pool;
          const match: Match = {
            ...(t.srcBits === undefined ? {} : { src: makePrefix(pick(pool, src), t.srcBits) }),
            ...(t.dstBits === undefined ? {} : { dst: makePrefix(pick(pool, dst), t.dstBits) }),
            ...(t.proto ? { proto: pick([6, 17], ports) } : {}),
            ...(t.srcPorts === undefined ? {} : { srcPort: pick(t.srcPorts, ports) }),
            ...(t.dstPorts === undefined ? {} : { dstPort: pick(t.dstPorts, ports >> 1) }),
          };
          return {
            // Ids neither ascending nor dense.
            id: ((index * 7919) % 100_003) + 1,
            priority: priority < 10 ? 0 : priority < 15 ? 1 : priority,
            direction: t.direction,
            match,
            action: pick(['pass', 'drop'] as const, src),
            shadow: false,
          };
        }),
      ),
  );
}

/** A flow inside, at the edge of, or just outside one of the rules. */
export function flowsNear(rules: readonly Rule[]): fc.Arbitrary<Flow> {
  return fc
    .record({
      rule: fc.constantFrom(...rules),
      noise: fc.uint8Array({ minLength: 32, maxLength: 32 }),
      ports: fc.tuple(fc.nat(65535), fc.nat(65535)),
      edges: fc.tuple(fc.nat(4), fc.nat(4)),
      proto: fc.constantFrom(6, 17, 1),
      other: fc.option(fc.constantFrom(...rules), { nil: undefined, freq: 3 }),
      keepHostBits: fc.boolean(),
    })
    .map(({ rule, noise, ports, edges, proto, other, keepHostBits }) => {
      const dst = (other ?? rule).match.dst;
      const host = keepHostBits ? new Uint8Array(32) : noise;
      return {
        direction: rule.direction,
        src: addressIn(rule.match.src, host.subarray(0, 16)),
        dst: addressIn(dst, host.subarray(16)),
        sport: portNear(rule.match.srcPort, edges[0], ports[0]),
        dport: portNear(rule.match.dstPort, edges[1], ports[1]),
        proto: edges[0] === 0 ? proto : (rule.match.proto ?? proto),
      };
    });
}

function addressIn(prefix: Prefix | undefined, noise: Uint8Array): Uint8Array {
  if (prefix === undefined) return v4Pool[noise[0]! % v4Pool.length]!;
  const inside = makePrefix(noise, prefix.bits).address;
  return noise.map((byte, index) => (byte ^ inside[index]!) | prefix.address[index]!);
}

function portNear(range: PortRange | undefined, edge: number, port: number): number {
  if (range === undefined) return port;
  const { first, last } = range;
  const choices = [first, last, first + (port % (last - first + 1)), Math.max(0, first - 1), Math.min(65535, last + 1)];
  return choices[edge]!;
}

/** Shapes that a direction needs, counted without the compiler. */
export function countShapes(rules: readonly Rule[], direction: string): number {
  const shapes = new Set<string>();
  for (const { direction: own, match } of rules) {
    if (own !== direction) continue;
    for (const sport of portPrefixes(match.srcPort)) {
      for (const dport of portPrefixes(match.dstPort)) {
        const lengths = [match.src?.bits ?? 0, match.dst?.bits ?? 0, match.proto === undefined, sport.bits, dport.bits];
        shapes.add(lengths.join());
      }
    }
  }
  return shapes.size;
}
