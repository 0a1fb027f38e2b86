// SPDX-License-Identifier: Apache-2.0
/**
 * Rules as a tuple space (Srinivasan, Suri, Varghese, "Packet Classification using Tuple Space Search", SIGCOMM 1999):
 * all rules of one shape (prefix lengths, which fields are given) stand in one hash table under their masked key.
 * Built for 100,000 rules: keys are bytes in one buffer, found through an open-addressing table beside it.
 */
import { VnicError } from '../../errors.ts';
import { VnicDirection, VnicLimits, VnicRuleKey } from '../../maps/generated/abi.ts';
import { type Direction, type PortRange, type Rule, rankRules } from './model.ts';
import { type PortPrefix, portPrefixes } from './ports.ts';

export interface Shape {
  readonly direction: Direction;
  readonly srcBits: number;
  readonly dstBits: number;
  readonly protoGiven: boolean;
  readonly sportBits: number;
  readonly dportBits: number;
  /** Position among the direction's shapes, which stand in ascending bestOrder. */
  readonly index: number;
  /** Order of its best rule. */
  readonly bestOrder: number;
}

export interface TupleSpace {
  /** A rule's position is its order; 0 wins. */
  readonly ranked: readonly Rule[];
  readonly shapes: Readonly<Record<Direction, readonly Shape[]>>;
  readonly entryCount: number;
  /** vnic_rule_key of each entry, one after the other. */
  readonly keys: Uint8Array<ArrayBuffer>;
  /** Order of each entry. */
  readonly orders: Uint32Array<ArrayBuffer>;
  /** Keys that a better rule already held, as pairs: order of the loser, order of the winner. */
  readonly collisions: readonly number[];
  /** The order of the rule that holds a key; undefined if none does. */
  find(key: Uint32Array): number | undefined;
}

export interface TupleSpaceLimits {
  /** Shapes per direction; default VNIC_MAX_SHAPES. */
  readonly maxShapes?: number;
  /** Entries in all, after port ranges are expanded; default 2^20. */
  readonly maxEntries?: number;
}

const DEFAULT_MAX_ENTRIES = 2 ** 20;
export const KEY_WORDS = VnicRuleKey.size / Uint32Array.BYTES_PER_ELEMENT;

/**
 * Ranks the rules and lays them out. Throws too_many_shapes or capacity_exceeded, naming the rules that are the
 * cheapest to remove.
 */
export function buildTupleSpace(rules: readonly Rule[], limits: TupleSpaceLimits = {}): TupleSpace {
  const ranked = rankRules(rules);
  const expand = portExpander();
  const shapes = collectShapes(ranked, expand);
  checkShapes(ranked, shapes, expand, limits.maxShapes ?? VnicLimits.maxShapes);
  const maxEntries = limits.maxEntries ?? DEFAULT_MAX_ENTRIES;
  const capacity = countEntries(ranked, expand, maxEntries);

  const keys = new Uint8Array(capacity * VnicRuleKey.size);
  const view = new DataView(keys.buffer);
  const orders = new Uint32Array(capacity);
  const index = new KeyIndex(new Uint32Array(keys.buffer), capacity);
  const collisions: number[] = [];
  let entryCount = 0;
  for (const [order, rule] of ranked.entries()) {
    const { src, dst, proto } = rule.match;
    forEachTuple(rule, expand, (sport, dport) => {
      const shape = shapes.get(shapeCode(rule, sport.bits, dport.bits))!;
      VnicRuleKey.write(view, entryCount * VnicRuleKey.size, {
        src: { bytes: src?.address },
        dst: { bytes: dst?.address },
        sport: sport.value,
        dport: dport.value,
        proto: proto ?? 0,
        direction: VnicDirection[rule.direction],
        shape: shape.index,
      });
      // Rules come best first, so whoever holds the key already is the one that wins.
      const holder = index.insert(entryCount);
      if (holder === entryCount) {
        orders[entryCount] = order;
        entryCount++;
      } else {
        collisions.push(order, orders[holder]!);
      }
    });
  }
  const all = [...shapes.values()];
  return {
    ranked,
    shapes: {
      ingress: all.filter((shape) => shape.direction === 'ingress'),
      egress: all.filter((shape) => shape.direction === 'egress'),
    },
    entryCount,
    keys: keys.subarray(0, entryCount * VnicRuleKey.size),
    orders: orders.subarray(0, entryCount),
    collisions,
    find(key) {
      const entry = index.find(key);
      return entry === undefined ? undefined : orders[entry];
    },
  };
}

type PortExpander = (range: PortRange | undefined) => readonly PortPrefix[];

/** Expands each different range once. */
function portExpander(): PortExpander {
  const known = new Map<number, readonly PortPrefix[]>();
  return (range) => {
    if (range === undefined) return portPrefixes(undefined);
    const code = range.first * 65536 + range.last;
    let prefixes = known.get(code);
    if (prefixes === undefined) {
      prefixes = portPrefixes(range);
      known.set(code, prefixes);
    }
    return prefixes;
  };
}

function forEachTuple(rule: Rule, expand: PortExpander, visit: (sport: PortPrefix, dport: PortPrefix) => void): void {
  const dports = expand(rule.match.dstPort);
  for (const sport of expand(rule.match.srcPort)) {
    for (const dport of dports) visit(sport, dport);
  }
}

/** All that makes a shape, as one number below 2^25. */
function shapeCode(rule: Rule, sportBits: number, dportBits: number): number {
  const { src, dst, proto } = rule.match;
  let code = VnicDirection[rule.direction];
  code = code * 129 + (src?.bits ?? 0);
  code = code * 129 + (dst?.bits ?? 0);
  code = code * 2 + (proto === undefined ? 0 : 1);
  code = code * 17 + sportBits;
  return code * 17 + dportBits;
}

/** Shapes by code. Rules come best first, so within a direction the shapes are met in ascending bestOrder. */
function collectShapes(ranked: readonly Rule[], expand: PortExpander): Map<number, Shape> {
  const shapes = new Map<number, Shape>();
  const counts: Record<Direction, number> = { ingress: 0, egress: 0 };
  for (const [order, rule] of ranked.entries()) {
    forEachTuple(rule, expand, (sport, dport) => {
      const code = shapeCode(rule, sport.bits, dport.bits);
      if (shapes.has(code)) return;
      shapes.set(code, {
        direction: rule.direction,
        srcBits: rule.match.src?.bits ?? 0,
        dstBits: rule.match.dst?.bits ?? 0,
        protoGiven: rule.match.proto !== undefined,
        sportBits: sport.bits,
        dportBits: dport.bits,
        index: counts[rule.direction]++,
        bestOrder: order,
      });
    });
  }
  return shapes;
}

function checkShapes(
  ranked: readonly Rule[],
  shapes: ReadonlyMap<number, Shape>,
  expand: PortExpander,
  maxShapes: number,
): void {
  for (const direction of ['ingress', 'egress'] as const) {
    const codes = [...shapes].filter(([, shape]) => shape.direction === direction).map(([code]) => code);
    if (codes.length <= maxShapes) continue;
    const users = new Map(codes.map((code) => [code, new Set<number>()]));
    for (const rule of ranked) {
      if (rule.direction !== direction) continue;
      forEachTuple(rule, expand, (sport, dport) => {
        users.get(shapeCode(rule, sport.bits, dport.bits))?.add(rule.id);
      });
    }
    const fewestFirst = [...users.values()].sort((a, b) => a.size - b.size);
    const excess = fewestFirst.slice(0, codes.length - maxShapes);
    const ruleIds = [...new Set(excess.flatMap((ids) => [...ids]))].sort((a, b) => a - b);
    throw new VnicError(
      'too_many_shapes',
      `the ${direction} rules need ${codes.length} shapes, the dataplane has ${maxShapes}; ` +
        `the rarest shapes come from ${namedRules(ruleIds)}`,
      {
        remedy: 'Give these rules prefix lengths and ports that other rules use; port ranges cost up to 30 shapes.',
        details: { direction, shapes: codes.length, maxShapes, ruleIds },
      },
    );
  }
}

function countEntries(ranked: readonly Rule[], expand: PortExpander, maxEntries: number): number {
  const perRule = ranked.map((rule) => expand(rule.match.srcPort).length * expand(rule.match.dstPort).length);
  const count = perRule.reduce((sum, entries) => sum + entries, 0);
  if (count <= maxEntries) return count;
  const ruleIds = ranked
    .map((rule, order) => ({ id: rule.id, entries: perRule[order] ?? 0 }))
    .sort((a, b) => b.entries - a.entries || a.id - b.id)
    .slice(0, 10)
    .map((rule) => rule.id);
  throw new VnicError(
    'capacity_exceeded',
    `the rules need ${count} table entries, at most ${maxEntries} fit; most are needed by ${namedRules(ruleIds)}`,
    {
      remedy: 'Use fewer rules, or port ranges that start and end at powers of two.',
      details: { entries: count, maxEntries, ruleIds },
    },
  );
}

function namedRules(ids: readonly number[]): string {
  const shown = ids.slice(0, 10).join(', ');
  const more = ids.length > 10 ? ` and ${ids.length - 10} more` : '';
  return `rule${ids.length === 1 ? '' : 's'} ${shown}${more}`;
}

/** Entry numbers by key; open addressing over the keys' own words. */
class KeyIndex {
  readonly #words: Uint32Array;
  readonly #slots: Int32Array;
  readonly #mask: number;

  constructor(words: Uint32Array, capacity: number) {
    this.#words = words;
    const size = 2 ** Math.ceil(Math.log2(Math.max(capacity, 1) * 2));
    this.#slots = new Int32Array(size).fill(-1);
    this.#mask = size - 1;
  }

  /** Adds the entry unless its key is there already; gives the entry that holds the key. */
  insert(entry: number): number {
    const start = entry * KEY_WORDS;
    const slot = this.#locate(this.#words, start);
    const holder = this.#slots[slot]!;
    if (holder >= 0) return holder;
    this.#slots[slot] = entry;
    return entry;
  }

  find(key: Uint32Array): number | undefined {
    const holder = this.#slots[this.#locate(key, 0)]!;
    return holder < 0 ? undefined : holder;
  }

  /** The slot that holds the key, or the free one where it belongs. */
  #locate(words: Uint32Array, start: number): number {
    let slot = hashWords(words, start) & this.#mask;
    for (;;) {
      const holder = this.#slots[slot]!;
      if (holder < 0 || this.#equal(holder * KEY_WORDS, words, start)) return slot;
      slot = (slot + 1) & this.#mask;
    }
  }

  #equal(own: number, words: Uint32Array, start: number): boolean {
    for (let word = 0; word < KEY_WORDS; word++) {
      if (this.#words[own + word] !== words[start + word]) return false;
    }
    return true;
  }
}

/** MurmurHash3 x86_32's rounds and finaliser. */
function hashWords(words: Uint32Array, start: number): number {
  let hash = 0;
  for (let word = 0; word < KEY_WORDS; word++) {
    let mixed = Math.imul(words[start + word]!, 0xcc9e2d51);
    mixed = Math.imul((mixed << 15) | (mixed >>> 17), 0x1b873593);
    hash ^= mixed;
    hash = (Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe6546b64) | 0;
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
