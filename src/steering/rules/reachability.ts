// SPDX-License-Identifier: Apache-2.0
/** Rules that no packet can reach, because better rules take all that they match. */
import { VnicRuleKey } from '../../maps/generated/abi.ts';
import type { CommonEnds } from './changes.ts';
import { KEY_WORDS, type KeyMask } from './key-index.ts';
import { sameMatch } from './model.ts';
import { portMask } from './ports.ts';
import { prefixMask } from './prefix.ts';
import type { Shape } from './shapes.ts';
import type { TupleSpace } from './tuple-space.ts';
import type { WarningList } from './warnings.ts';

/** What is known from the set before. */
export interface EarlierReachability {
  /** Of that set, by position. */
  readonly unreachable: Uint8Array;
  readonly ends: CommonEnds;
}

/** So many new entries are each held against all others; for more it is less work to look at everything again. */
const MAX_NEW_ENTRIES = 32;

/**
 * Which rules no packet can reach, by position: 1 for each rule all of whose keys are held by, or lie inside a key of, a
 * better rule. A rule that only several better rules together cover within one key is not found.
 */
export function findUnreachable(space: TupleSpace, earlier?: EarlierReachability): Uint8Array<ArrayBuffer> {
  const unreachable = new Uint8Array(space.rules.length);
  const findWider = widerKeyFinder(space);
  const toCheck = earlier === undefined ? undefined : ordersToCheck(space, earlier);
  for (let order = 0; order < space.ranked.length; order++) {
    if (toCheck !== undefined && toCheck[order] === 0) continue;
    if (!isReachable(space, order, findWider)) unreachable[space.positions[order]!] = 1;
  }
  return unreachable;
}

/**
 * Orders of rules that may be reachable now and were not before, or the other way round: new ones, those that were not
 * reachable, and those with a key inside a new rule's. Undefined: all of them.
 */
function ordersToCheck(space: TupleSpace, { unreachable, ends }: EarlierReachability): Uint8Array | undefined {
  const { positions, firstEntries, collisions } = space;
  const { start, end, shift } = ends;
  if (end - start > MAX_NEW_ENTRIES) return undefined;
  const toCheck = new Uint8Array(positions.length);
  const isNew = new Uint8Array(positions.length);
  let newEntries = 0;
  for (let order = 0; order < positions.length; order++) {
    const position = positions[order]!;
    if (position >= start && position < end) {
      isNew[order] = 1;
      toCheck[order] = 1;
      newEntries += firstEntries[order + 1]! - firstEntries[order]!;
    } else if (unreachable[position < start ? position : position + shift] === 1) {
      toCheck[order] = 1;
    }
  }
  if (newEntries > MAX_NEW_ENTRIES) return undefined;
  for (let pair = 0; pair < collisions.length; pair += 2) {
    if (isNew[collisions[pair + 1]!] === 1) toCheck[collisions[pair]!] = 1;
  }
  for (let order = 0; order < positions.length; order++) {
    if (isNew[order] === 0) continue;
    for (let entry = firstEntries[order]!; entry < firstEntries[order + 1]!; entry++) markInside(space, entry, toCheck);
  }
  return toCheck;
}

/** Marks the orders of the worse rules that have a key inside an entry's. */
function markInside(space: TupleSpace, outer: number, marked: Uint8Array): void {
  const { keys, orders } = space;
  const words = keyWords(space);
  const shapes = keys[outer * VnicRuleKey.size + directionByte] === 0 ? space.shapes.ingress : space.shapes.egress;
  const shape = shapes[keys[outer * VnicRuleKey.size + shapeByte]!]!;
  const mask = maskOf(shape);
  const narrower = Uint8Array.from(shapes, (other) => (other !== shape && isWider(shape, other) ? 1 : 0));
  const key = mask.map((bits, word) => bits & words[outer * KEY_WORDS + word]!);
  // Entries stand in the order of their rules.
  for (let entry = outer + 1; entry < space.entryCount; entry++) {
    if (narrower[keys[entry * VnicRuleKey.size + shapeByte]!] !== 1) continue;
    if (liesInside(words, entry * KEY_WORDS, key, mask)) marked[orders[entry]!] = 1;
  }
}

function liesInside(words: Uint32Array, start: number, key: Uint32Array, mask: Uint32Array): boolean {
  for (let word = 0; word < KEY_WORDS; word++) {
    if (((words[start + word]! & mask[word]!) ^ key[word]!) !== 0) return false;
  }
  return true;
}

/** Warns of the rules that findUnreachable found. */
export function warnOfUnreachable(space: TupleSpace, unreachable: Uint8Array, warnings: WarningList): void {
  const findWider = widerKeyFinder(space);
  let collision = 0;
  for (let order = 0; order < space.ranked.length; order++) {
    if (unreachable[space.positions[order]!] === 0) continue;
    if (!warnings.hasRoom) {
      warnings.addUnseen();
      continue;
    }
    const winners = new Set<number>();
    // Collisions stand in the order of their losers.
    while (collision < space.collisions.length && space.collisions[collision]! < order) collision += 2;
    for (; space.collisions[collision] === order; collision += 2) winners.add(space.collisions[collision + 1]!);
    for (let entry = space.firstEntries[order]!; entry < space.firstEntries[order + 1]!; entry++) {
      winners.add(findWider(entry));
    }
    warnOf(space, order, winners, warnings);
  }
}

function isReachable(space: TupleSpace, order: number, findWider: (entry: number) => number): boolean {
  const end = space.firstEntries[order + 1]!;
  for (let entry = space.firstEntries[order]!; entry < end; entry++) {
    if (findWider(entry) < 0) return true;
  }
  return false;
}

function warnOf(space: TupleSpace, order: number, winners: ReadonlySet<number>, warnings: WarningList): void {
  const rule = space.ranked[order]!;
  const better = [...winners].sort((a, b) => a - b).map((winner) => space.ranked[winner]!);
  const twin = better.find((other) => sameMatch(rule.match, other.match));
  if (twin !== undefined) {
    const reason = twin.priority === rule.priority ? 'at the same priority: the lower id wins' : 'which wins';
    const message = `rule ${rule.id} matches exactly what rule ${twin.id} matches, ${reason}`;
    warnings.add('duplicate_match', [rule.id, twin.id], message);
    return;
  }
  const ids = better.map((other) => other.id);
  const message = `rule ${rule.id} never takes effect: all it matches goes to rule ${ids.join(', ')}`;
  warnings.add('unreachable_rule', [rule.id, ...ids], message);
}

const { shape: shapeByte, direction: directionByte } = VnicRuleKey.offsets;

function keyWords({ keys, entryCount }: TupleSpace): Uint32Array {
  return new Uint32Array(keys.buffer, keys.byteOffset, entryCount * KEY_WORDS);
}

interface WiderShape {
  readonly bestOrder: number;
  readonly mask: KeyMask;
}

/** Finds, for an entry, the order of a better rule whose key in a wider shape contains the entry's; -1 if none does. */
function widerKeyFinder(space: TupleSpace): (entry: number) => number {
  const { keys, orders } = space;
  const wider = [widerShapes(space.shapes.ingress), widerShapes(space.shapes.egress)];
  return (entry) => {
    const order = orders[entry]!;
    const keyStart = entry * VnicRuleKey.size;
    const candidates = wider[keys[keyStart + directionByte]!]![keys[keyStart + shapeByte]!]!;
    for (const { bestOrder, mask } of candidates) {
      if (bestOrder >= order) break;
      const winner = space.findMasked(entry, mask);
      if (winner >= 0 && winner < order) return winner;
    }
    return -1;
  };
}

/** For each shape the others that every key of it falls into, in ascending bestOrder. */
function widerShapes(shapes: readonly Shape[]): WiderShape[][] {
  const all = shapes.map((shape) => ({ shape, bestOrder: shape.bestOrder, mask: keyMaskOf(shape) }));
  return shapes.map((narrow) => all.filter(({ shape }) => shape !== narrow && isWider(shape, narrow)));
}

function keyMaskOf(shape: Shape): KeyMask {
  const mask = maskOf(shape);
  const number = VnicRuleKey.encode({ shape: shape.index });
  const shapeWord = Math.floor(shapeByte / Uint32Array.BYTES_PER_ELEMENT);
  const used = Array.from(mask.keys()).filter((word) => mask[word] !== 0 || word === shapeWord);
  return { mask, used, shapeWord, shapeBits: new Uint32Array(number.buffer)[shapeWord]! };
}

function isWider(wide: Shape, narrow: Shape): boolean {
  return (
    wide.srcBits <= narrow.srcBits &&
    wide.dstBits <= narrow.dstBits &&
    (narrow.protoGiven || !wide.protoGiven) &&
    wide.sportBits <= narrow.sportBits &&
    wide.dportBits <= narrow.dportBits
  );
}

/** vnic_rule_key as a mask, in words; the direction is kept, the shape is not. */
function maskOf(shape: Shape): Uint32Array {
  const bytes = VnicRuleKey.encode({
    src: { bytes: prefixMask(shape.srcBits) },
    dst: { bytes: prefixMask(shape.dstBits) },
    sport: portMask(shape.sportBits),
    dport: portMask(shape.dportBits),
    proto: shape.protoGiven ? 0xff : 0,
    direction: 0xff,
  });
  return new Uint32Array(bytes.buffer);
}
