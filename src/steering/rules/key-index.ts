// SPDX-License-Identifier: Apache-2.0
/** Entry numbers by vnic_rule_key: open addressing over the keys' own words. */
import { VnicRuleKey } from '../../maps/generated/abi.ts';

export const KEY_WORDS = VnicRuleKey.size / Uint32Array.BYTES_PER_ELEMENT;

/** The part of a key that a shape looks at. */
export interface KeyMask {
  /** vnic_rule_key as a mask, in words. */
  readonly mask: Uint32Array;
  /** The words that count: those where the mask is not 0, and the shape's. */
  readonly used: readonly number[];
  /** The word that holds the shape's number, and the number where it stands in the word. */
  readonly shapeWord: number;
  readonly shapeBits: number;
}

export class KeyIndex {
  readonly #words: Uint32Array;
  readonly #slots: Int32Array;
  readonly #mask: number;

  /** @param words of all keys, one after the other; filled by whoever inserts */
  constructor(words: Uint32Array, capacity: number) {
    this.#words = words;
    const size = 2 ** Math.ceil(Math.log2(Math.max(capacity, 1) * 2));
    this.#slots = new Int32Array(size).fill(-1);
    this.#mask = size - 1;
  }

  /** Adds the entry unless its key is there already; gives the entry that holds the key. */
  insert(entry: number): number {
    const words = this.#words;
    const start = entry * KEY_WORDS;
    let sum = 0;
    for (let word = 0; word < KEY_WORDS; word++) sum = (sum + spread(words[start + word]!, word)) | 0;
    let slot = mix(sum) & this.#mask;
    for (;;) {
      const holder = this.#slots[slot]!;
      if (holder < 0) break;
      if (this.#isSame(holder * KEY_WORDS, start)) return holder;
      slot = (slot + 1) & this.#mask;
    }
    this.#slots[slot] = entry;
    return entry;
  }

  #isSame(a: number, b: number): boolean {
    const words = this.#words;
    for (let word = 0; word < KEY_WORDS; word++) if (words[a + word] !== words[b + word]) return false;
    return true;
  }

  /** The entry whose key is that of `entry` under the mask; -1 if there is none. Looks at the words of the mask only. */
  findMasked(entry: number, { mask, used, shapeWord, shapeBits }: KeyMask): number {
    const words = this.#words;
    const start = entry * KEY_WORDS;
    let sum = 0;
    for (const word of used) {
      const masked = words[start + word]! & mask[word]!;
      sum = (sum + spread(word === shapeWord ? masked | shapeBits : masked, word)) | 0;
    }
    let slot = mix(sum) & this.#mask;
    for (;;) {
      const holder = this.#slots[slot]!;
      if (holder < 0) return -1;
      // Keys of one shape are 0 where its mask is.
      let isSame = true;
      for (const word of used) {
        const masked = words[start + word]! & mask[word]!;
        const wanted = word === shapeWord ? masked | shapeBits : masked;
        if (((words[holder * KEY_WORDS + word]! ^ wanted) | 0) === 0) continue;
        isSame = false;
        break;
      }
      if (isSame) return holder;
      slot = (slot + 1) & this.#mask;
    }
  }
}

/** Odd numbers without a pattern: digits of the golden ratio's multiples, as splitmix32 has them. */
const factors = Uint32Array.from({ length: KEY_WORDS }, (_, word) => mix(Math.imul(word + 1, 0x9e3779b9)) | 1);

/** What a word adds to the hash; 0 for 0, so that words outside a mask need not be looked at. */
function spread(word: number, position: number): number {
  // The high bits are folded down first: they would reach only the high bits of the product.
  return Math.imul(word ^ (word >>> 15), factors[position]!);
}

/** MurmurHash3's finaliser. */
function mix(sum: number): number {
  let hash = Math.imul(sum ^ (sum >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
