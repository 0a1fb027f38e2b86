// SPDX-License-Identifier: Apache-2.0
/** Arrays with BPF_F_MMAPABLE, read and written in place: no system call. */
import { VnicError } from '../errors.ts';
import type { Native } from '../loader/ffi/index.ts';
import type { Inputs, StructCodec } from './codec.ts';
import { BpfMapType, MapFlag } from './generated/host.ts';
import type { BpfMap } from './map.ts';
import { checkIndex, expectShape } from './map-errors.ts';
import { Mapping, pageSize } from './mapping.ts';
import { u32Codec } from './scalars.ts';

export interface MappedArrayOptions {
  /** Default false. Writing through a typed array over a read-only mapping ends the process (SIGSEGV). */
  readonly readOnly?: boolean;
  /**
   * Default false: mapped from the beginning to the end. True: mapped when it is used, until `rest()`. The kernel counts all
   * pages of a mapping as this process's memory, touched or not, so a large array that is seldom used is better not mapped.
   */
  readonly onDemand?: boolean;
}

interface Views {
  readonly data: DataView;
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
}

/** Some elements in place, until it is closed: then the typed arrays are detached, or must not be used any more. */
export interface ArrayWindow extends Disposable {
  readonly first: number;
  readonly count: number;
  /** `stride` for each element. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly u64: BigUint64Array<ArrayBuffer>;
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
  readonly codec: StructCodec<T>;
  readonly #native: Native;
  readonly #onDemand: boolean;
  readonly #windows = new Set<Mapping>();
  #mapping: Mapping | null = null;
  #views: Views | null = null;
  #closed = false;

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
    this.codec = value;
    this.#native = native;
    this.#onDemand = options.onDemand ?? false;
    if (!this.#onDemand) this.#mapWhole();
  }

  #map(offsetBytes: number, lengthBytes: number): Mapping {
    const range = { offsetBytes, lengthBytes, writable: !this.readOnly };
    return new Mapping(this.#native, this.map.fd.value, range, `map ${this.map.name}`);
  }

  #mapWhole(): Views {
    this.#mapping = this.#map(0, this.stride * this.length);
    const { buffer } = this.#mapping;
    this.#views = { data: new DataView(buffer), u32: new Uint32Array(buffer), u64: new BigUint64Array(buffer) };
    return this.#views;
  }

  #requireOpen(): void {
    if (!this.#closed) return;
    throw new VnicError('failed', `The mapping of map ${this.map.name} was used after it was closed.`);
  }

  get #open(): Views {
    this.#requireOpen();
    return this.#views ?? this.#mapWhole();
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
    if (!(fieldOffset >= 0 && fieldOffset % size === 0 && fieldOffset + size <= this.codec.size)) {
      throw new VnicError(
        'failed',
        `Map ${this.map.name} has no aligned field of ${size} bytes at offset ${fieldOffset} of its values.`,
      );
    }
    return start + fieldOffset;
  }

  /** A copy; fields that a program writes meanwhile can be of different moments. */
  read(index: number): T {
    return this.codec.read(this.#open.data, this.#at(index));
  }

  /** The whole element; fields that are left out become zero. */
  write(index: number, value: Inputs<T>): void {
    this.codec.write(this.#writable.data, this.#at(index), value);
  }

  /** The given fields; all others stay as they are. */
  put(index: number, value: Inputs<T>): void {
    this.codec.put(this.#writable.data, this.#at(index), value);
  }

  /** The element's bytes, in place. */
  bytes(index: number): Uint8Array {
    return new Uint8Array(this.#open.data.buffer, this.#at(index), this.codec.size);
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
  compareExchangeU32(index: number, fieldOffset: number, expected: number, value: number): boolean {
    const at = this.#fieldAt(index, fieldOffset, 4) / 4;
    return Atomics.compareExchange(this.#writable.u32, at, expected, value) === expected;
  }

  /** One compare-and-swap. False: the field was another than `expected`, and is as it was. */
  compareExchangeU64(index: number, fieldOffset: number, expected: bigint, value: bigint): boolean {
    const at = this.#fieldAt(index, fieldOffset, 8) / 8;
    return Atomics.compareExchange(this.#writable.u64, at, expected, value) === expected;
  }

  /** The element as u16, in place; a last odd byte is left out. */
  u16Row(index: number): Uint16Array {
    return new Uint16Array(this.#open.data.buffer, this.#at(index), Math.floor(this.codec.size / 2));
  }

  /** The element as u32, in place; what does not fill a whole one is left out. */
  u32Row(index: number): Uint32Array {
    return new Uint32Array(this.#open.data.buffer, this.#at(index), Math.floor(this.codec.size / 4));
  }

  /** The whole array, in place; `stride / 8` for each element. */
  asBigUint64(): BigUint64Array {
    return this.#open.u64;
  }

  /**
   * Elements that follow each other, in place. Maps no more than their pages, unless the whole array is mapped already.
   * Close it before the array.
   */
  window(first: number, count: number): ArrayWindow {
    this.#requireOpen();
    const start = this.#at(first);
    const lengthBytes = count === 0 ? 0 : this.#at(first + count - 1) + this.stride - start;
    const whole = this.#views;
    const offsetBytes = start - (start % pageSize());
    const mapping = whole === null && count > 0 ? this.#map(offsetBytes, start - offsetBytes + lengthBytes) : null;
    if (mapping !== null) this.#windows.add(mapping);
    const buffer = mapping?.buffer ?? (whole?.data.buffer as ArrayBuffer | undefined) ?? new ArrayBuffer(0);
    const at = mapping === null ? (whole === null ? 0 : start) : start - offsetBytes;
    return {
      first,
      count,
      bytes: new Uint8Array(buffer, at, lengthBytes),
      u32: new Uint32Array(buffer, at, lengthBytes / 4),
      u64: new BigUint64Array(buffer, at, lengthBytes / 8),
      [Symbol.dispose]: () => {
        if (mapping === null) return;
        mapping.close();
        this.#windows.delete(mapping);
      },
    };
  }

  /** Unmaps an array that is mapped on demand, until it is used again. Windows stay. */
  rest(): void {
    if (this.#onDemand) this.#unmapWhole();
  }

  #unmapWhole(): void {
    this.#views = null;
    this.#mapping?.close();
    this.#mapping = null;
  }

  /** Unmaps; does nothing when that is done already. */
  close(): void {
    this.#closed = true;
    this.#unmapWhole();
    for (const mapping of this.#windows) mapping.close();
    this.#windows.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
