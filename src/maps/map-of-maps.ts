// SPDX-License-Identifier: Apache-2.0
/** ARRAY_OF_MAPS maps. */
import { VnicError } from '../errors.ts';
import type { Native } from '../loader/ffi/index.ts';
import { BpfMapType } from './generated/host.ts';
import type { BpfMap } from './map.ts';
import { checkIndex, checkMap, EINVAL, ENOENT, expectShape, mapTypeName } from './map-errors.ts';
import { u32Codec } from './scalars.ts';

/** Typed access to a map that someone else owns and closes. */
export class MapOfMaps {
  readonly map: BpfMap;
  readonly #native: Native;

  /** Throws `abi_mismatch` when the map is no array of maps. */
  constructor(native: Native, map: BpfMap) {
    expectShape(map, { types: [BpfMapType.arrayOfMaps], keySize: u32Codec.size, valueSize: u32Codec.size });
    this.map = map;
    this.#native = native;
  }

  /**
   * Puts a map into a slot at once; the outer map keeps it alive. Returns when no program reads the map that stood there
   * any more (an RCU grace period, kernel/bpf/syscall.c maybe_wait_bpf_programs). Throws `abi_mismatch` when the inner
   * map is not like the one that the outer map was made with.
   */
  set(index: number, inner: BpfMap): void {
    const { fd, name } = this.map;
    checkIndex(this.map, index);
    const value = u32Codec.encode(inner.fd.value);
    const result = this.#native.libbpf.bpf_map_update_elem(fd.value, u32Codec.encode(index), value, 0n);
    if (result === -EINVAL) {
      const { type, keySize, valueSize } = inner;
      const shape = `${mapTypeName(type)} with keys of ${keySize} and values of ${valueSize} bytes`;
      throw new VnicError('abi_mismatch', `Map ${inner.name} (${shape}) is not of the kind that map ${name} holds.`, {
        remedy: 'Make it with the type, sizes and flags of the inner map that the outer one was made with.',
        details: { map: name, inner: inner.name, index, errno: 'EINVAL', errnoNumber: EINVAL },
      });
    }
    checkMap(this.#native, this.map, result, 'bpf_map_update_elem');
  }

  /** Id of the map in the slot, for `BpfMap.fromId`; undefined when it is empty. */
  innerId(index: number): number | undefined {
    const { fd } = this.map;
    checkIndex(this.map, index);
    const value = this.#native.memory.alloc(u32Codec.size);
    const result = this.#native.libbpf.bpf_map_lookup_elem(fd.value, u32Codec.encode(index), value);
    if (result === -ENOENT) return undefined;
    checkMap(this.#native, this.map, result, 'bpf_map_lookup_elem');
    return u32Codec.decode(value);
  }

  /** Empties a slot; false when it was empty. */
  delete(index: number): boolean {
    const { fd } = this.map;
    checkIndex(this.map, index);
    const result = this.#native.libbpf.bpf_map_delete_elem(fd.value, u32Codec.encode(index));
    if (result === -ENOENT) return false;
    checkMap(this.#native, this.map, result, 'bpf_map_delete_elem');
    return true;
  }
}
