// SPDX-License-Identifier: Apache-2.0
/**
 * The rig's own view of its BPF maps, apart from the product's: layouts come from the BTF of the rig's objects,
 * memory-mapped arrays from mmap. A fault in the product's maps must not hide in what judges the product.
 */
import { VnicError } from '../../src/errors.ts';
import type { Fd } from '../../src/loader/fd.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import type { BpfObject } from '../../src/loader/object.ts';
import { layoutOf } from '../../src/maps/btf/index.ts';
import { hostLittleEndian } from '../../src/maps/codec.ts';
import { BpfMapBatchOpts, Libc, MapUpdateFlag } from '../../src/maps/generated/host.ts';

const pageBytes = 4096;

export interface StructFields {
  /** Bytes. */
  readonly size: number;
  /** Bytes from the start of the struct. Throws `failed` for a field that it has not. */
  at(field: string): number;
}

/** Size and offsets of a struct, from the object's BTF. */
export function structFields(object: BpfObject, name: string): StructFields {
  const layout = layoutOf(object.btf, object.btf.idOf(name, 'struct'));
  if (layout.kind !== 'struct') throw new VnicError('failed', `${name} is no struct.`);
  const offsets = new Map(layout.members.map((member) => [member.name, member.offset]));
  return {
    size: layout.size,
    at(field) {
      const offset = offsets.get(field);
      if (offset === undefined) throw new VnicError('failed', `struct ${name} has no field ${field}.`);
      return offset;
    },
  };
}

/** A BPF_F_MMAPABLE array in memory. Its views must not be used after `close()`. */
export class MappedElements {
  readonly view: DataView;
  /** Bytes from one element to the next: the kernel rounds values up to 8. */
  readonly stride: number;
  readonly #native: Native;
  readonly #address: bigint;
  readonly #lengthBytes: number;
  #closed = false;

  constructor(native: Native, fd: Fd, elements: number, valueSize: number) {
    this.#native = native;
    this.stride = Math.ceil(valueSize / 8) * 8;
    this.#lengthBytes = Math.ceil((this.stride * elements) / pageBytes) * pageBytes;
    const protection = Libc.protRead | Libc.protWrite;
    this.#address = native.check(
      native.libc.mmap(0n, this.#lengthBytes, protection, Libc.mapShared, fd.value, 0n),
      'mmap',
      'a map of the rig',
    );
    this.view = new DataView(native.memory.view(this.#address, this.#lengthBytes));
  }

  /** Where a field of an element stands in `view`. */
  offset(element: number, fieldOffset: number): number {
    return element * this.stride + fieldOffset;
  }

  u64(element: number, fieldOffset: number): bigint {
    return this.view.getBigUint64(this.offset(element, fieldOffset), hostLittleEndian);
  }

  /** A counter as a number: exact below 2^53, which no run of the rig reaches. */
  count(element: number, fieldOffset: number): number {
    return Number(this.u64(element, fieldOffset));
  }

  u32(element: number, fieldOffset: number): number {
    return this.view.getUint32(this.offset(element, fieldOffset), hostLittleEndian);
  }

  setU64(element: number, fieldOffset: number, value: bigint): void {
    this.view.setBigUint64(this.offset(element, fieldOffset), value, hostLittleEndian);
  }

  setU32(element: number, fieldOffset: number, value: number): void {
    this.view.setUint32(this.offset(element, fieldOffset), value, hostLittleEndian);
  }

  setU16(element: number, fieldOffset: number, value: number): void {
    this.view.setUint16(this.offset(element, fieldOffset), value, hostLittleEndian);
  }

  clear(): void {
    new Uint8Array(this.view.buffer).fill(0);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#native.check(this.#native.libc.munmap(this.#address, this.#lengthBytes), 'munmap');
  }
}

export function u32Key(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** All values of an array map, one after the other, by one system call. */
export function readArray(native: Native, fd: Fd, elements: number, valueSize: number): DataView {
  const values = native.memory.alloc(elements * valueSize);
  const keys = native.memory.alloc(elements * 4);
  const count = Uint32Array.of(elements);
  const call = native.libbpf.bpf_map_lookup_batch(
    fd.value,
    null,
    native.memory.alloc(4),
    keys,
    values,
    new Uint8Array(count.buffer),
    BpfMapBatchOpts.encode({}),
  );
  native.check(call, 'bpf_map_lookup_batch', 'a map of the rig');
  if (count[0] !== elements) throw new VnicError('failed', `Read ${count[0]} of ${elements} elements.`);
  return new DataView(values.buffer);
}

/** Zeroes all values of an array map by one system call; locks in them are left alone. */
export function zeroArray(native: Native, fd: Fd, elements: number, valueSize: number): void {
  const keys = Uint32Array.from({ length: elements }, (_, index) => index);
  const count = Uint32Array.of(elements);
  const call = native.libbpf.bpf_map_update_batch(
    fd.value,
    new Uint8Array(keys.buffer),
    native.memory.alloc(elements * valueSize),
    new Uint8Array(count.buffer),
    BpfMapBatchOpts.encode({}),
  );
  native.check(call, 'bpf_map_update_batch', 'a map of the rig');
}

/** Puts a device into a DEVMAP; the kernel looks the index up in the calling thread's namespace. */
export function setDevice(native: Native, devmap: Fd, slot: number, ifindex: number): void {
  const value = u32Key(ifindex);
  const result = native.libbpf.bpf_map_update_elem(devmap.value, u32Key(slot), value, BigInt(MapUpdateFlag.any));
  native.check(result, 'bpf_map_update_elem', 'a device map of the rig');
}

/** Index of a device in the calling thread's namespace. */
export function deviceIndex(native: Native, name: string): number {
  return native.check(native.libc.if_nametoindex(name), 'if_nametoindex', name);
}
