// SPDX-License-Identifier: Apache-2.0
/**
 * Large rule sets over many addresses, and a matcher that is fast enough to check them against. The sets of rules.ts
 * draw from small pools: there most of 100,000 rules would be the same rule again.
 */
import type { Direction, Flow, PortRange, Rule } from '../../src/steering/rules/model.ts';
import { rankRules } from '../../src/steering/rules/model.ts';
import { makePrefix, prefixMask } from '../../src/steering/rules/prefix.ts';
import { below, pick, type Random } from './flow-frames.ts';

interface Kind {
  family: 4 | 6;
  srcBits?: number;
  dstBits?: number;
  proto?: number;
  srcPort?: PortRange;
  dstPort?: PortRange;
}

/** Together fewer shapes than a direction has room for: ranges are not aligned and take several. */
const kinds: readonly Kind[] = [
  { family: 4, srcBits: 128 },
  { family: 4, srcBits: 120, dstBits: 128, proto: 17 },
  { family: 4, srcBits: 112, proto: 6, dstPort: { first: 443, last: 443 } },
  { family: 4, dstBits: 120, proto: 17, dstPort: { first: 1000, last: 2000 } },
  { family: 4, srcBits: 108, dstBits: 113 },
  {
    family: 4,
    srcBits: 128,
    dstBits: 128,
    proto: 6,
    srcPort: { first: 1024, last: 65535 },
    dstPort: { first: 80, last: 81 },
  },
  { family: 6, srcBits: 64 },
  { family: 6, srcBits: 32, dstBits: 128, proto: 6 },
  { family: 6, dstBits: 56, proto: 17, dstPort: { first: 53, last: 53 } },
  { family: 6, srcBits: 128, dstBits: 48 },
];

/** 2^18 IPv4 addresses, 2^40 IPv6 ones, some of which share long prefixes. */
function address(random: Random, family: 4 | 6): Uint8Array {
  const bytes = new Uint8Array(16);
  if (family === 4) {
    bytes.set([0xff, 0xff, 10, below(random, 4), random() & 0xff, random() & 0xff], 10);
  } else {
    bytes.set([0xfd, 0, 0, random() & 3, 0, random() & 0xff, random() & 0xff, random() & 0xff], 0);
    bytes[15] = random() & 0xff;
  }
  return bytes;
}

/** Rules with unique ids, in both directions; a tenth of them are wide and win often. */
export function wideRules(random: Random, count: number): Rule[] {
  return Array.from({ length: count }, (_, index): Rule => {
    const kind = pick(random, kinds);
    const direction: Direction = below(random, 3) === 0 ? 'egress' : 'ingress';
    return {
      id: index + 1,
      priority: below(random, 4),
      direction,
      match: {
        ...(kind.srcBits === undefined ? {} : { src: makePrefix(address(random, kind.family), kind.srcBits) }),
        ...(kind.dstBits === undefined ? {} : { dst: makePrefix(address(random, kind.family), kind.dstBits) }),
        ...(kind.proto === undefined ? {} : { proto: kind.proto }),
        ...(kind.srcPort === undefined ? {} : { srcPort: kind.srcPort }),
        ...(kind.dstPort === undefined ? {} : { dstPort: kind.dstPort }),
      },
      action: pick(random, ['pass', 'drop'] as const),
      shadow: false,
    };
  });
}

/** A flow that lies in one of the rules, or nearly; its other end often in another. */
export function flowNear(random: Random, rules: readonly Rule[]): Flow {
  const rule = pick(random, rules);
  const { match } = below(random, 3) === 0 ? { match: { ...rule.match, dst: pick(random, rules).match.dst } } : rule;
  const family = (match.src ?? match.dst)?.address[0] === 0xfd ? 6 : 4;
  const inside = (prefix: Rule['match']['src']): Uint8Array => {
    const noise = address(random, family);
    if (prefix === undefined) return noise;
    const mask = prefixMask(prefix.bits);
    return noise.map((byte, index) => (byte & ~mask[index]!) | prefix.address[index]!);
  };
  const port = (range: PortRange | undefined): number =>
    range === undefined
      ? random() & 0xffff
      : Math.min(65535, Math.max(0, range.first - 1 + below(random, range.last - range.first + 3)));
  return {
    direction: rule.direction,
    src: inside(match.src),
    dst: inside(match.dst),
    sport: port(match.srcPort),
    dport: port(match.dstPort),
    proto: match.proto !== undefined && below(random, 8) > 0 ? match.proto : pick(random, [6, 17]),
  };
}

const words = (bytes: Uint8Array): Uint32Array => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  return Uint32Array.from({ length: 4 }, (_, index) => view.getUint32(index * 4));
};

/** As matchRules of src/steering/rules/reference.ts, rule by rule in the order in which they win. */
export function rankedMatcher(rules: readonly Rule[]): (flow: Flow) => Rule | undefined {
  const ranked = rankRules(rules).map((rule) => ({
    rule,
    src: words(rule.match.src?.address ?? new Uint8Array(16)),
    srcMask: words(prefixMask(rule.match.src?.bits ?? 0)),
    dst: words(rule.match.dst?.address ?? new Uint8Array(16)),
    dstMask: words(prefixMask(rule.match.dst?.bits ?? 0)),
  }));
  const covers = (mask: Uint32Array, prefix: Uint32Array, value: Uint32Array): boolean =>
    ((value[0]! & mask[0]!) ^ prefix[0]!) === 0 &&
    ((value[1]! & mask[1]!) ^ prefix[1]!) === 0 &&
    ((value[2]! & mask[2]!) ^ prefix[2]!) === 0 &&
    ((value[3]! & mask[3]!) ^ prefix[3]!) === 0;
  const within = (range: PortRange | undefined, value: number): boolean =>
    range === undefined || (value >= range.first && value <= range.last);
  return (flow) => {
    const [src, dst] = [words(flow.src), words(flow.dst)];
    return ranked.find(
      ({ rule, srcMask, src: srcPrefix, dstMask, dst: dstPrefix }) =>
        covers(srcMask, srcPrefix, src) &&
        covers(dstMask, dstPrefix, dst) &&
        rule.direction === flow.direction &&
        (rule.match.proto === undefined || rule.match.proto === flow.proto) &&
        within(rule.match.srcPort, flow.sport) &&
        within(rule.match.dstPort, flow.dport),
    )?.rule;
  };
}
