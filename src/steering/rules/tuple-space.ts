// SPDX-License-Identifier: Apache-2.0
/**
 * Rules as a tuple space (Srinivasan, Suri, Varghese, "Packet Classification using Tuple Space Search", SIGCOMM 1999):
 * all rules of one shape (prefix lengths, which fields are given) stand in one hash table under their masked key.
 * Built for 100,000 rules: keys are bytes in one buffer, found through an open-addressing table beside it.
 */
import { VnicError } from '../../errors.ts';
import { VnicLimits, VnicRuleKey } from '../../maps/generated/abi.ts';
import { KEY_WORDS, KeyIndex, type KeyMask } from './key-index.ts';
import { type Direction, inOrder, type Rule, rankPositions } from './model.ts';
import { type PackedRules, packRules } from './packed.ts';
import { checkShapes, namedRules, type Shape, ShapeTable } from './shapes.ts';

export interface TupleSpace {
  /** As they were given. */
  readonly rules: readonly Rule[];
  /** Position in `rules` of each order. */
  readonly positions: Uint32Array;
  /** A rule's position is its order; 0 wins. */
  readonly ranked: readonly Rule[];
  readonly shapes: Readonly<Record<Direction, readonly Shape[]>>;
  readonly entryCount: number;
  /** vnic_rule_key of each entry, one after the other, in ascending order. */
  readonly keys: Uint8Array<ArrayBuffer>;
  /** Order of each entry. */
  readonly orders: Uint32Array<ArrayBuffer>;
  /** First entry of each order, and at the end the number of entries. */
  readonly firstEntries: Uint32Array<ArrayBuffer>;
  /** Keys that a better rule already held, as pairs: order of the loser, order of the winner. */
  readonly collisions: readonly number[];
  /** The order of the rule that holds the key which an entry's becomes under a mask; -1 if none does. */
  readonly findMasked: (entry: number, mask: KeyMask) => number;
}

export interface TupleSpaceLimits {
  /** Shapes per direction; default VNIC_MAX_SHAPES. */
  readonly maxShapes?: number;
  /** Entries in all, after port ranges are expanded; default 2^20. */
  readonly maxEntries?: number;
}

const DEFAULT_MAX_ENTRIES = 2 ** 20;

/** As layOut, of rules alone. */
export function buildTupleSpace(rules: readonly Rule[], limits: TupleSpaceLimits = {}): TupleSpace {
  return layOut(packRules(rules), limits);
}

/**
 * Ranks the rules and lays them out. Throws too_many_shapes or capacity_exceeded, naming the rules that are the
 * cheapest to remove.
 */
export function layOut(packed: PackedRules, limits: TupleSpaceLimits = {}): TupleSpace {
  const { rules, classOf, classes } = packed;
  const positions = rankPositions(packed.ids, packed.rankKeys);
  const table = new ShapeTable(classes.list);
  let capacity = 0;
  for (let order = 0; order < positions.length; order++) {
    capacity += table.shapesOf(classOf[positions[order]!]!, order).length;
  }
  checkShapes(table, packed, limits.maxShapes ?? VnicLimits.maxShapes);
  checkEntries(packed, capacity, limits.maxEntries ?? DEFAULT_MAX_ENTRIES);

  const keys = new Uint8Array(capacity * KEY_BYTES);
  const orders = new Uint32Array(capacity);
  const firstEntries = new Uint32Array(rules.length + 1);
  const words = new Uint32Array(keys.buffer);
  const packedWords = new Uint32Array(packed.keys.buffer);
  const index = new KeyIndex(words, capacity);
  const collisions: number[] = [];
  let entryCount = 0;
  function insert(order: number): void {
    // Rules come best first, so whoever holds the key already is the one that wins.
    const holder = index.insert(entryCount);
    if (holder === entryCount) orders[entryCount++] = order;
    else collisions.push(order, orders[holder]!);
  }
  for (let order = 0; order < positions.length; order++) {
    firstEntries[order] = entryCount;
    const position = positions[order]!;
    const classNumber = classOf[position]!;
    const shapes = table.shapesOf(classNumber, order);
    if (shapes.length === 1) {
      copyKey(words, entryCount * KEY_WORDS, packedWords, position * KEY_WORDS);
      keys[entryCount * KEY_BYTES + offsets.shape] = shapes[0]!.index;
      insert(order);
      continue;
    }
    const { srcPort, dstPort } = rules[position]!.match;
    const { sports, dports } = classes.list[classNumber]!;
    // A side that comes to one prefix may have another value in each rule of the class.
    const sportValues = sports.length === 1 ? [srcPort?.first ?? 0] : sports.map(({ value }) => value);
    const dportValues = dports.length === 1 ? [dstPort?.first ?? 0] : dports.map(({ value }) => value);
    let pair = 0;
    for (const sport of sportValues) {
      for (const dport of dportValues) {
        copyKey(words, entryCount * KEY_WORDS, packedWords, position * KEY_WORDS);
        writePorts(keys, entryCount * KEY_BYTES, sport, dport);
        keys[entryCount * KEY_BYTES + offsets.shape] = shapes[pair++]!.index;
        insert(order);
      }
    }
  }
  firstEntries[rules.length] = entryCount;
  return {
    rules,
    positions,
    ranked: inOrder(rules, positions),
    shapes: { ingress: table.of('ingress'), egress: table.of('egress') },
    entryCount,
    keys: keys.subarray(0, entryCount * KEY_BYTES),
    orders: orders.subarray(0, entryCount),
    firstEntries,
    collisions,
    findMasked: (entry, mask) => {
      const holder = index.findMasked(entry, mask);
      return holder < 0 ? -1 : orders[holder]!;
    },
  };
}

const { offsets, size: KEY_BYTES } = VnicRuleKey;

function copyKey(to: Uint32Array, toStart: number, from: Uint32Array, fromStart: number): void {
  for (let word = 0; word < KEY_WORDS; word++) to[toStart + word] = from[fromStart + word]!;
}

/** Ports are big-endian. */
function writePorts(keys: Uint8Array, at: number, sport: number, dport: number): void {
  keys[at + offsets.sport] = sport >> 8;
  keys[at + offsets.sport + 1] = sport & 0xff;
  keys[at + offsets.dport] = dport >> 8;
  keys[at + offsets.dport + 1] = dport & 0xff;
}

function checkEntries({ rules, classOf, classes }: PackedRules, count: number, maxEntries: number): void {
  if (count <= maxEntries) return;
  const ruleIds = rules
    .map((rule, position) => {
      const { sports, dports } = classes.list[classOf[position]!]!;
      return { id: rule.id, entries: sports.length * dports.length };
    })
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
