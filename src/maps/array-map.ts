// SPDX-License-Identifier: Apache-2.0
/** ARRAY maps through system calls; see `MappedArray` for those that can be memory-mapped. */

import type { Native } from '../loader/ffi/index.ts';
import { readBatches } from './batch.ts';
import type { Codec, Inputs } from './codec.ts';
import { BpfMapType } from './generated/host.ts';
import type { BpfMap } from './map.ts';
import { checkIndex, checkMap, expectShape } from './map-errors.ts';
import { u32Codec } from './scalars.ts';

/** Typed access to a map that someone else owns and closes. */
export class ArrayMap<V> {
  readonly map: BpfMap;
  readonly #native: Native;
  readonly #value: Codec<V>;
  readonly #valueBytes: Uint8Array;

  /** Throws `abi_mismatch` when the map is no array or its values have another size. */
  constructor(native: Native, map: BpfMap, value: Codec<V>) {
    expectShape(map, { types: [BpfMapType.array], keySize: u32Codec.size, valueSize: value.size });
    this.map = map;
    this.#native = native;
    this.#value = value;
    this.#valueBytes = native.memory.alloc(value.size);
  }

  get length(): number {
    return this.map.maxEntries;
  }

  /** Throws `capacity_exceeded` for an index that the array does not have. */
  get(index: number): V {
    const { fd } = this.map;
    checkIndex(this.map, index);
    const result = this.#native.libbpf.bpf_map_lookup_elem(fd.value, u32Codec.encode(index), this.#valueBytes);
    checkMap(this.#native, this.map, result, 'bpf_map_lookup_elem');
    return this.#value.decode(this.#valueBytes);
  }

  /** Throws `capacity_exceeded` for an index that the array does not have. Programs can see half of the new value. */
  set(index: number, value: Inputs<V>): void {
    const { fd } = this.map;
    checkIndex(this.map, index);
    const bytes = this.#value.encode(value);
    const result = this.#native.libbpf.bpf_map_update_elem(fd.value, u32Codec.encode(index), bytes, 0n);
    checkMap(this.#native, this.map, result, 'bpf_map_update_elem');
  }

  /** All elements, in order of their index. */
  *values(): Generator<V, void> {
    for (const { values, count } of readBatches(this.#native, this.map)) {
      const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
      for (let index = 0; index < count; index++) yield this.#value.read(view, index * this.#value.size);
    }
  }
}
