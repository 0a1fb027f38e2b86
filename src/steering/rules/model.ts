// SPDX-License-Identifier: Apache-2.0
/** The rule in its normalised form, and the order in which rules win. */
import { type Prefix, samePrefix } from './prefix.ts';

export type Direction = 'ingress' | 'egress';

export interface PortRange {
  /** 0 to 65535. Port 0 is also what packets without ports carry: every fragment of a datagram. */
  readonly first: number;
  /** Not below `first`. */
  readonly last: number;
}

/** What is absent matches everything. A rule with no prefix matches both families. */
export interface Match {
  readonly src?: Prefix;
  readonly dst?: Prefix;
  /** IP protocol number. */
  readonly proto?: number;
  readonly srcPort?: PortRange;
  readonly dstPort?: PortRange;
}

export type Rate = { readonly bitsPerSecond: number } | { readonly packetsPerSecond: number };
export type Burst = { readonly bytes: number } | { readonly packets: number };

export interface Limit {
  readonly rate: Rate;
  /** In the rate's own kind: bytes for bits/s, packets for packets/s. */
  readonly burst: Burst;
  /** `rule`: all flows of the rule share it; `flow`: each flow has its own. */
  readonly scope: 'rule' | 'flow';
  /** `police` drops what is over the limit; `shape` (egress only) delays it. */
  readonly mode: 'police' | 'shape';
}

export interface Rule {
  /** 1 to 2^31-1, chosen by the client. */
  readonly id: number;
  /** 0 to 2^31-1; the highest wins. */
  readonly priority: number;
  readonly direction: Direction;
  readonly match: Match;
  readonly action: 'pass' | 'drop';
  readonly limit?: Limit;
  /** Ascending, no duplicates; absent: the steering table chooses. */
  readonly queues?: readonly number[];
  /** Count what would be dropped, drop nothing. */
  readonly shadow: boolean;
}

export const MAX_RULE_ID = 2 ** 31 - 1;
export const MAX_PRIORITY = 2 ** 31 - 1;
export const MAX_PORT = 65535;

/** What a rule is matched against; the fields of the dataplane's flow key. */
export interface Flow {
  readonly direction: Direction;
  /** 16 bytes, IPv4 as v4-mapped. */
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  /** 0 where the protocol has no ports and for fragments. */
  readonly sport: number;
  readonly dport: number;
  readonly proto: number;
}

/**
 * How narrow a match is: the sum of both prefix lengths (of the 16-byte addresses), 1 for a protocol, and for each port
 * range the length of the prefix that holds as many ports: 16 for one port, 0 for more than half of them.
 */
export function specificity(match: Match): number {
  return (
    (match.src?.bits ?? 0) +
    (match.dst?.bits ?? 0) +
    (match.proto === undefined ? 0 : 1) +
    portSpecificity(match.srcPort) +
    portSpecificity(match.dstPort)
  );
}

function portSpecificity(range: PortRange | undefined): number {
  if (range === undefined) return 0;
  // 32 - clz32(n - 1) is ceil(log2(n)).
  return 16 - (32 - Math.clz32(range.last - range.first));
}

/** The rules, the winner of all first: higher priority, then more specific, then lower id. */
export function rankRules(rules: readonly Rule[]): Rule[] {
  return rules
    .map((rule) => ({ rule, priority: rule.priority, specificity: specificity(rule.match), id: rule.id }))
    .sort((a, b) => b.priority - a.priority || b.specificity - a.specificity || a.id - b.id)
    .map((ranked) => ranked.rule);
}

export function sameMatch(a: Match, b: Match): boolean {
  return (
    sameOptional(a.src, b.src, samePrefix) &&
    sameOptional(a.dst, b.dst, samePrefix) &&
    a.proto === b.proto &&
    sameOptional(a.srcPort, b.srcPort, samePorts) &&
    sameOptional(a.dstPort, b.dstPort, samePorts)
  );
}

function samePorts(a: PortRange, b: PortRange): boolean {
  return a.first === b.first && a.last === b.last;
}

function sameOptional<T>(a: T | undefined, b: T | undefined, same: (a: T, b: T) => boolean): boolean {
  return a === undefined || b === undefined ? a === b : same(a, b);
}
