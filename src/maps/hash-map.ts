// SPDX-License-Identifier: Apache-2.0
/** HASH, LRU_HASH and LPM_TRIE maps. */

import type { Native } from '../loader/ffi/index.ts';
import { deleteBatch, type RawEntries, readBatches, updateBatch } from './batch.ts';
import type { Codec, Inputs } from './codec.ts';
import { BpfMapType, MapUpdateFlag } from './generated/host.ts';
import type { BpfMap } from './map.ts';
import { checkMap, ENOENT, expectShape } from './map-errors.ts';

const types: readonly BpfMapType[] = [BpfMapType.hash, BpfMapType.lruHash, BpfMapType.lpmTrie];

/**
 * Typed access to a map that someone else owns and closes. In an LPM trie `get` and `has` give the longest prefix that
 * covers the key; `set` and `delete` mean exactly the prefix given.
 */
export class HashMap<K, V> {
  readonly map: BpfMap;
  readonly #native: Native;
  readonly #key: Codec<K>;
  readonly #value: Codec<V>;
  readonly #keyBytes: Uint8Array;
  readonly #valueBytes: Uint8Array;
  readonly #keyView: DataView;
  readonly #valueView: DataView;

  /** Throws `abi_mismatch` when the map is of another type or the codecs are of other sizes. */
  constructor(native: Native, map: BpfMap, key: Codec<K>, value: Codec<V>) {
    expectShape(map, { types, keySize: key.size, valueSize: value.size });
    this.map = map;
    this.#native = native;
    this.#key = key;
    this.#value = value;
    this.#keyBytes = native.memory.alloc(key.size);
    this.#valueBytes = native.memory.alloc(value.size);
    this.#keyView = new DataView(this.#keyBytes.buffer);
    this.#valueView = new DataView(this.#valueBytes.buffer);
  }

  get(key: Inputs<K>): V | undefined {
    return this.#lookUp(key) ? this.#value.read(this.#valueView, 0) : undefined;
  }

  has(key: Inputs<K>): boolean {
    return this.#lookUp(key);
  }

  #lookUp(key: Inputs<K>): boolean {
    const { fd } = this.map;
    this.#key.write(this.#keyView, 0, key);
    const result = this.#native.libbpf.bpf_map_lookup_elem(fd.value, this.#keyBytes, this.#valueBytes);
    if (result === -ENOENT) return false;
    checkMap(this.#native, this.map, result, 'bpf_map_lookup_elem');
    return true;
  }

  /**
   * Throws `capacity_exceeded` when the map is full, `conflict` with flag noexist when the key is there, `not_found` with
   * flag exist when it is not.
   */
  set(key: Inputs<K>, value: Inputs<V>, flags: MapUpdateFlag = MapUpdateFlag.any): void {
    const { fd } = this.map;
    this.#key.write(this.#keyView, 0, key);
    this.#value.write(this.#valueView, 0, value);
    const result = this.#native.libbpf.bpf_map_update_elem(fd.value, this.#keyBytes, this.#valueBytes, BigInt(flags));
    checkMap(this.#native, this.map, result, 'bpf_map_update_elem');
  }

  /** False when the key was not there. */
  delete(key: Inputs<K>): boolean {
    const { fd } = this.map;
    this.#key.write(this.#keyView, 0, key);
    const result = this.#native.libbpf.bpf_map_delete_elem(fd.value, this.#keyBytes);
    if (result === -ENOENT) return false;
    checkMap(this.#native, this.map, result, 'bpf_map_delete_elem');
    return true;
  }

  /**
   * All entries. Those that are there from beginning to end come exactly once, also while others come and go; the
   * caller may delete and set entries meanwhile. Throws `conflict` when a trie changes faster than it can be read.
   */
  *entries(): Generator<[key: K, value: V], void> {
    for (const { keys, values, count } of readBatches(this.#native, this.map)) {
      const keyView = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
      const valueView = new DataView(values.buffer, values.byteOffset, values.byteLength);
      for (let index = 0; index < count; index++) {
        yield [this.#key.read(keyView, index * this.#key.size), this.#value.read(valueView, index * this.#value.size)];
      }
    }
  }

  /** As `entries`, as bytes and in parts; a part's memory is used again for the next one. */
  batches(): Generator<RawEntries, void> {
    return readBatches(this.#native, this.map);
  }

  /** The bytes of entries, for `setMany`. */
  pack(entries: readonly (readonly [key: Inputs<K>, value: Inputs<V>])[]): RawEntries {
    const keys = new Uint8Array(entries.length * this.#key.size);
    const values = new Uint8Array(entries.length * this.#value.size);
    const keyView = new DataView(keys.buffer);
    const valueView = new DataView(values.buffer);
    for (const [index, [key, value]] of entries.entries()) {
      this.#key.write(keyView, index * this.#key.size, key);
      this.#value.write(valueView, index * this.#value.size, value);
    }
    return { keys, values, count: entries.length };
  }

  /**
   * Sets entries in order; each is atomic, all together are not. Throws as `set`; `details.entriesSet` then says how
   * many were set.
   */
  setMany(entries: RawEntries, flags: MapUpdateFlag = MapUpdateFlag.any): void {
    updateBatch(this.#native, this.map, entries, flags);
  }

  /** Passes over keys that are not there; returns how many entries were deleted. */
  deleteMany(entries: Pick<RawEntries, 'keys' | 'count'>): number {
    return deleteBatch(this.#native, this.map, entries.keys, entries.count);
  }

  /** Deletes what is there when it begins; returns how many entries were deleted. */
  clear(): number {
    let deleted = 0;
    for (const batch of readBatches(this.#native, this.map)) deleted += this.deleteMany(batch);
    return deleted;
  }

  /** Reads the whole map: the kernel keeps no count that it would tell. */
  count(): number {
    let total = 0;
    for (const { count } of readBatches(this.#native, this.map)) total += count;
    return total;
  }
}
