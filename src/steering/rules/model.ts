// SPDX-License-Identifier: Apache-2.0
/** The rule in its normalised form, and the order in which rules win: higher priority, then more specific, then lower id. */
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

/** Above the highest specificity (two host prefixes, a protocol, two ports). */
const SPECIFICITY_RANGE = 512;
/** Ids have 31 bits; so many more for a position still make an exact number. */
const POSITION_RANGE = 2 ** 22;

/** The rules, the winner of all first. */
export function rankRules(rules: readonly Rule[]): Rule[] {
  const ids = Float64Array.from(rules, ({ id }) => id);
  return inOrder(rules, rankPositions(ids, Float64Array.from(rules, rankKey)));
}

/** The rules at the given positions. */
export function inOrder(rules: readonly Rule[], positions: Uint32Array): Rule[] {
  const ordered: Rule[] = [];
  for (const position of positions) ordered.push(rules[position]!);
  return ordered;
}

/** A number for the first two parts of the order; the lower wins. */
export function rankKey({ priority, match }: Rule): number {
  return -(priority * SPECIFICITY_RANGE + specificity(match));
}

/**
 * Positions by rank key and then by id, the winner of all first. A counting sort: sets of 100,000 rules are ranked at
 * each change.
 */
export function rankPositions(ids: Float64Array, keys: Float64Array): Uint32Array<ArrayBuffer> {
  // Keys are numbered as they are met; then the numbers are put in the keys' order.
  const numberOf = new Map<number, number>();
  const numbers = new Uint32Array(keys.length);
  for (let position = 0; position < keys.length; position++) {
    const key = keys[position]!;
    let number = numberOf.get(key);
    if (number === undefined) {
      number = numberOf.size;
      numberOf.set(key, number);
    }
    numbers[position] = number;
  }
  const counts = new Uint32Array(numberOf.size);
  for (const number of numbers) counts[number]!++;
  const next = new Uint32Array(numberOf.size);
  let start = 0;
  for (const key of Float64Array.from(numberOf.keys()).sort()) {
    const number = numberOf.get(key)!;
    next[number] = start;
    start += counts[number]!;
  }
  const positions = new Uint32Array(keys.length);
  const byId = isAscending(ids) ? undefined : positionsById(ids);
  for (let index = 0; index < keys.length; index++) {
    const position = byId === undefined ? index : byId[index]!;
    positions[next[numbers[position]!]!++] = position;
  }
  return positions;
}

/** Each number above the one before. */
export function isAscending(numbers: Float64Array): boolean {
  for (let index = 1; index < numbers.length; index++) if (numbers[index]! <= numbers[index - 1]!) return false;
  return true;
}

function positionsById(ids: Float64Array): Uint32Array {
  const keys = ids.map((id, position) => id * POSITION_RANGE + position).sort();
  const positions = new Uint32Array(ids.length);
  for (let index = 0; index < ids.length; index++) positions[index] = keys[index]! % POSITION_RANGE;
  return positions;
}

/** Whether two rules mean the same in everything, the id included. */
export function sameRule(a: Rule, b: Rule): boolean {
  if (a === b) return true;
  return (
    a.id === b.id &&
    a.priority === b.priority &&
    a.direction === b.direction &&
    a.action === b.action &&
    a.shadow === b.shadow &&
    sameMatch(a.match, b.match) &&
    sameOptional(a.limit, b.limit, sameLimit) &&
    sameOptional(a.queues, b.queues, sameQueues)
  );
}

function sameLimit(a: Limit, b: Limit): boolean {
  return a.scope === b.scope && a.mode === b.mode && sameFields(a.rate, b.rate) && sameFields(a.burst, b.burst);
}

/** Of rates and bursts: the same unit and number. */
function sameFields<T extends object>(a: T, b: T): boolean {
  const [unit, value] = Object.entries(a)[0]!;
  return Object.entries(b).every(([otherUnit, other]) => otherUnit === unit && other === value);
}

function sameQueues(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((queue, index) => queue === b[index]);
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
