// SPDX-License-Identifier: Apache-2.0
/** Arrays with BPF_F_MMAPABLE, read and written in place: no system call. */
import { VnicError } from '../errors.ts';
import type { Native } from '../loader/ffi/index.ts';
import type { Inputs, StructCodec } from './codec.ts';
import { BpfMapType, MapFlag } from './generated/host.ts';
import type { BpfMap } from './map.ts';
import { checkIndex, expectShape } from './map-errors.ts';
import { Mapping } from './mapping.ts';
import { u32Codec } from './scalars.ts';

export interface MappedArrayOptions {
  /** Default false. Writing through a typed array over a read-only mapping ends the process (SIGSEGV). */
  readonly readOnly?: boolean;
}

interface Views {
  readonly data: DataView;
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
}

/**
 * The whole array as memory. It lives on when the map's descriptor is closed. Typed arrays that it hands out are
 * detached by `close()`; all methods throw VnicError `failed` afterwards, and `capacity_exceeded` for an index that the
 * array does not have.
 *
 * Programs read and write at the same time. `storeU32`, `storeU64` and the loads are single aligned accesses, and a store
 * is seen after everything that was written before it; `write` and `put` are neither.
 */
export class MappedArray<T> implements Disposable {
  readonly length: number;
  readonly readOnly: boolean;
  /** Bytes from one element to the next: the value size rounded up to 8 (kernel/bpf/arraymap.c). */
  readonly stride: number;
  readonly map: BpfMap;
  readonly #value: StructCodec<T>;
  readonly #mapping: Mapping;
  #views: Views | null;

  /** Throws `abi_mismatch` when the map is no array, cannot be mapped or has values of another size. */
  constructor(native: Native, map: BpfMap, value: StructCodec<T>, options: MappedArrayOptions = {}) {
    expectShape(map, { types: [BpfMapType.array], keySize: u32Codec.size, valueSize: value.size });
    if ((map.flags & MapFlag.mmapable) === 0) {
      throw new VnicError('abi_mismatch', `Map ${map.name} was made without BPF_F_MMAPABLE and cannot be mapped.`, {
        remedy: 'Attach again with this version.',
        details: { map: map.name, flags: map.flags },
      });
    }
    this.map = map;
    this.length = map.maxEntries;
    this.readOnly = options.readOnly ?? false;
    this.stride = Math.ceil(value.size / 8) * 8;
    this.#value = value;
    const lengthBytes = this.stride * this.length;
    const range = { offsetBytes: 0, lengthBytes, writable: !this.readOnly };
    this.#mapping = new Mapping(native, map.fd.value, range, `map ${map.name}`);
    const { buffer } = this.#mapping;
    this.#views = { data: new DataView(buffer), u32: new Uint32Array(buffer), u64: new BigUint64Array(buffer) };
  }

  get #open(): Views {
    if (this.#views === null) {
      throw new VnicError('failed', `The mapping of map ${this.map.name} was used after it was closed.`);
    }
    return this.#views;
  }

  get #writable(): Views {
    if (this.readOnly) throw new VnicError('failed', `Map ${this.map.name} is mapped to be read only.`);
    return this.#open;
  }

  /** Bytes from the start of the mapping. */
  #at(index: number): number {
    checkIndex(this.map, index);
    return index * this.stride;
  }

  /** Bytes from the start of the mapping, for a field of `size` bytes that must be aligned and inside the value. */
  #fieldAt(index: number, fieldOffset: number, size: number): number {
    const start = this.#at(index);
    if (!(fieldOffset >= 0 && fieldOffset % size === 0 && fieldOffset + size <= this.#value.size)) {
      throw new VnicError(
        'failed',
        `Map ${this.map.name} has no aligned field of ${size} bytes at offset ${fieldOffset} of its values.`,
      );
    }
    return start + fieldOffset;
  }

  /** A copy; fields that a program writes meanwhile can be of different moments. */
  read(index: number): T {
    return this.#value.read(this.#open.data, this.#at(index));
  }

  /** The whole element; fields that are left out become zero. */
  write(index: number, value: Inputs<T>): void {
    this.#value.write(this.#writable.data, this.#at(index), value);
  }

  /** The given fields; all others stay as they are. */
  put(index: number, value: Inputs<T>): void {
    this.#value.put(this.#writable.data, this.#at(index), value);
  }

  /** The element's bytes, in place. */
  bytes(index: number): Uint8Array {
    return new Uint8Array(this.#open.data.buffer, this.#at(index), this.#value.size);
  }

  /** The bytes of elements that follow each other, `stride` for each, in place. */
  span(first: number, count: number): Uint8Array<ArrayBuffer> {
    if (count === 0) return new Uint8Array(0);
    const start = this.#at(first);
    const end = this.#at(first + count - 1) + this.stride;
    return new Uint8Array(this.#open.data.buffer as ArrayBuffer, start, end - start);
  }

  /** A field by its offset in the value, in bytes (`codec.offsets`). */
  u32(index: number, fieldOffset: number): number {
    return Atomics.load(this.#open.u32, this.#fieldAt(index, fieldOffset, 4) / 4);
  }

  /** A field by its offset in the value, in bytes (`codec.offsets`). */
  u64(index: number, fieldOffset: number): bigint {
    return Atomics.load(this.#open.u64, this.#fieldAt(index, fieldOffset, 8) / 8);
  }

  /** One aligned store, seen after all that was written before it. */
  storeU32(index: number, fieldOffset: number, value: number): void {
    if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
      throw new VnicError('failed', `${value} does not fit a u32 of map ${this.map.name}.`);
    }
    Atomics.store(this.#writable.u32, this.#fieldAt(index, fieldOffset, 4) / 4, value);
  }

  /** One aligned store, seen after all that was written before it. */
  storeU64(index: number, fieldOffset: number, value: bigint): void {
    if (value !== BigInt.asUintN(64, value)) {
      throw new VnicError('failed', `${value} does not fit a u64 of map ${this.map.name}.`);
    }
    Atomics.store(this.#writable.u64, this.#fieldAt(index, fieldOffset, 8) / 8, value);
  }

  /** One compare-and-swap. False: the field was another than `expected`, and is as it was. */
  compareExchangeU64(index: number, fieldOffset: number, expected: bigint, value: bigint): boolean {
    const at = this.#fieldAt(index, fieldOffset, 8) / 8;
    return Atomics.compareExchange(this.#writable.u64, at, expected, value) === expected;
  }

  /** The element as u16, in place; a last odd byte is left out. */
  u16Row(index: number): Uint16Array {
    return new Uint16Array(this.#open.data.buffer, this.#at(index), Math.floor(this.#value.size / 2));
  }

  /** The element as u32, in place; what does not fill a whole one is left out. */
  u32Row(index: number): Uint32Array {
    return new Uint32Array(this.#open.data.buffer, this.#at(index), Math.floor(this.#value.size / 4));
  }

  /** The whole array, in place; `stride / 8` for each element. */
  asBigUint64(): BigUint64Array {
    return this.#open.u64;
  }

  /** Unmaps; does nothing when that is done already. */
  close(): void {
    this.#views = null;
    this.#mapping.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
