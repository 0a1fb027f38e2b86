// SPDX-License-Identifier: Apache-2.0
/**
 * The runtime under the generated codecs: structs as bytes, as C lays them out.
 *
 * Plain integers are in the host's byte order, since programs on the same machine read them; __be types are big-endian.
 * 64-bit integers and pointers are bigint, everything narrower is a number.
 */
import { endianness } from 'node:os';
import { VnicError } from '../errors.ts';

/** Byte order of this host, as DataView wants it. */
export const hostLittleEndian = endianness() === 'LE';

type TypedArray =
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | BigUint64Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

/**
 * What encode() and write() take for a T: every field may be left out and is then zero, at any depth. Of the members
 * of a union give one. A list may be shorter than its array; the rest is zero.
 */
export type Inputs<T> = T extends number | bigint | boolean | string | Uint8Array
  ? T
  : T extends TypedArray
    ? ArrayLike<T[number]>
    : T extends readonly (infer Element)[]
      ? readonly Inputs<Element>[]
      : { readonly [Key in keyof T]?: Inputs<T[Key]> | undefined };

export interface Codec<T> {
  /** The name in C. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** The bytes of a value; fields that are left out are zero, and so is all padding. */
  readonly encode: (value: Inputs<T>) => Uint8Array<ArrayBuffer>;
  /** Throws `failed` when fewer than `size` bytes follow the offset. */
  readonly decode: (bytes: Uint8Array, offset?: number) => T;
  /** As encode(), in place. Not atomic: memory that others read meanwhile is written field by field, see `offsets`. */
  readonly write: (view: DataView, offset: number, value: Inputs<T>) => void;
  readonly read: (view: DataView, offset: number) => T;
}

export interface StructCodec<T> extends Codec<T> {
  /** Bytes from the start of the struct. */
  readonly offsets: Readonly<Record<keyof T & string, number>>;
  /** Writes the given fields, and `sz` of libbpf's options in any case; leaves every other byte as it is. */
  readonly put: (view: DataView, offset: number, value: Inputs<T>) => void;
}

export interface StructDefinition<T> {
  readonly name: string;
  readonly size: number;
  readonly offsets: Readonly<Record<keyof T & string, number>>;
  readonly read: (view: DataView, offset: number) => T;
  readonly put: (view: DataView, offset: number, value: Inputs<T>) => void;
}

/** Completes a generated definition to a codec. */
export function structCodec<T>(definition: StructDefinition<T>): StructCodec<T> {
  const { name, size, offsets, read, put } = definition;

  function write(view: DataView, offset: number, value: Inputs<T>): void {
    clear(view, offset, size);
    put(view, offset, value);
  }

  return {
    name,
    size,
    offsets,
    read,
    put,
    write,
    encode(value) {
      const bytes = new Uint8Array(size);
      put(new DataView(bytes.buffer), 0, value);
      return bytes;
    },
    decode(bytes, offset = 0) {
      if (bytes.length - offset < size) {
        throw new VnicError(
          'failed',
          `struct ${name} needs ${size} bytes, but only ${bytes.length - offset} are there.`,
          {
            remedy: 'The kernel object has another layout than this version; attach again with this version.',
          },
        );
      }
      return read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset);
    },
  };
}

/** Zeroes memory; short structs in a loop, which costs less than a typed array over them. */
function clear(view: DataView, at: number, length: number): void {
  if (length > 256) {
    new Uint8Array(view.buffer, view.byteOffset + at, length).fill(0);
    return;
  }
  for (let index = 0; index < length; index++) {
    view.setUint8(at + index, 0);
  }
}

function refuse(field: string, problem: string): VnicError {
  return new VnicError('failed', `Field ${field}: ${problem}.`, {
    remedy: 'Give a value that the field can hold; this is a fault of the program, please report it.',
  });
}

function checkNumber(value: number, least: number, most: number, field: string): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw refuse(field, `${value} is not an integer from ${least} to ${most}`);
  }
}

/*
 * put…: undefined leaves the bytes as they are. A value that does not fit is refused, because DataView would cut it off
 * in silence.
 */

export function putU8(view: DataView, at: number, value: number | undefined, field: string): void {
  if (value !== undefined) {
    checkNumber(value, 0, 0xff, field);
    view.setUint8(at, value);
  }
}

export function putI8(view: DataView, at: number, value: number | undefined, field: string): void {
  if (value !== undefined) {
    checkNumber(value, -0x80, 0x7f, field);
    view.setInt8(at, value);
  }
}

export function putU16(
  view: DataView,
  at: number,
  value: number | undefined,
  littleEndian: boolean,
  field: string,
): void {
  if (value !== undefined) {
    checkNumber(value, 0, 0xffff, field);
    view.setUint16(at, value, littleEndian);
  }
}

export function putI16(
  view: DataView,
  at: number,
  value: number | undefined,
  littleEndian: boolean,
  field: string,
): void {
  if (value !== undefined) {
    checkNumber(value, -0x8000, 0x7fff, field);
    view.setInt16(at, value, littleEndian);
  }
}

export function putU32(
  view: DataView,
  at: number,
  value: number | undefined,
  littleEndian: boolean,
  field: string,
): void {
  if (value !== undefined) {
    checkNumber(value, 0, 0xffffffff, field);
    view.setUint32(at, value, littleEndian);
  }
}

export function putI32(
  view: DataView,
  at: number,
  value: number | undefined,
  littleEndian: boolean,
  field: string,
): void {
  if (value !== undefined) {
    checkNumber(value, -0x80000000, 0x7fffffff, field);
    view.setInt32(at, value, littleEndian);
  }
}

export function putU64(
  view: DataView,
  at: number,
  value: bigint | undefined,
  littleEndian: boolean,
  field: string,
): void {
  if (value !== undefined) {
    if (value !== BigInt.asUintN(64, value)) {
      throw refuse(field, `${value} is not an integer from 0 to 2^64 - 1`);
    }
    view.setBigUint64(at, value, littleEndian);
  }
}

export function putI64(
  view: DataView,
  at: number,
  value: bigint | undefined,
  littleEndian: boolean,
  field: string,
): void {
  if (value !== undefined) {
    if (value !== BigInt.asIntN(64, value)) {
      throw refuse(field, `${value} is not an integer from -2^63 to 2^63 - 1`);
    }
    view.setBigInt64(at, value, littleEndian);
  }
}

export function putF32(view: DataView, at: number, value: number | undefined, littleEndian: boolean): void {
  if (value !== undefined) {
    view.setFloat32(at, value, littleEndian);
  }
}

export function putF64(view: DataView, at: number, value: number | undefined, littleEndian: boolean): void {
  if (value !== undefined) {
    view.setFloat64(at, value, littleEndian);
  }
}

export function putBool(view: DataView, at: number, value: boolean | undefined): void {
  if (value !== undefined) {
    view.setUint8(at, value ? 1 : 0);
  }
}

/** A copy. */
export function readBytes(view: DataView, at: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  // Addresses and tags are short: a loop costs less than a second typed array over the same memory.
  for (let index = 0; index < length; index++) {
    bytes[index] = view.getUint8(at + index);
  }
  return bytes;
}

export function putBytes(
  view: DataView,
  at: number,
  length: number,
  value: Uint8Array | undefined,
  field: string,
): void {
  if (value !== undefined) {
    if (value.length > length) {
      throw refuse(field, `${value.length} bytes were given, ${length} is the most`);
    }
    for (let index = 0; index < value.length; index++) {
      view.setUint8(at + index, value[index]!);
    }
  }
}

/** The UTF-8 text before the first NUL. */
export function readText(view: DataView, at: number, length: number): string {
  const bytes = Buffer.from(view.buffer, view.byteOffset + at, length);
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? length : end);
}

/** The terminating NUL must fit too. */
export function putText(view: DataView, at: number, length: number, value: string | undefined, field: string): void {
  if (value !== undefined) {
    const bytes = Buffer.from(value, 'utf8');
    if (bytes.length >= length || bytes.includes(0)) {
      throw refuse(field, `${JSON.stringify(value)} is not text of at most ${length - 1} bytes without NUL`);
    }
    new Uint8Array(view.buffer, view.byteOffset + at, length).fill(0).set(bytes);
  }
}

/** A copy of bytes in a buffer of their own, so that any typed array may begin at 0. */
export function readBuffer(view: DataView, at: number, length: number): ArrayBuffer {
  const copy = new Uint8Array(length);
  copy.set(new Uint8Array(view.buffer, view.byteOffset + at, length));
  return copy.buffer;
}

export function readList<T>(
  view: DataView,
  at: number,
  length: number,
  step: number,
  read: (view: DataView, at: number) => T,
): T[] {
  const items: T[] = [];
  for (let index = 0; index < length; index++) {
    items.push(read(view, at + index * step));
  }
  return items;
}

/** Elements beyond those given are left as they are. */
export function putList<T>(
  view: DataView,
  at: number,
  length: number,
  step: number,
  values: ArrayLike<T> | undefined,
  field: string,
  put: (view: DataView, at: number, value: T) => void,
): void {
  if (values === undefined) {
    return;
  }
  if (values.length > length) {
    throw refuse(field, `${values.length} elements were given, ${length} is the most`);
  }
  for (let index = 0; index < values.length; index++) {
    put(view, at + index * step, values[index]!);
  }
}

/** Bytes that a bit field touches, as one number in host byte order, and how far it is from that number's low end. */
function bitSpan(view: DataView, at: number, firstBit: number, width: number) {
  const length = Math.ceil((firstBit + width) / 8);
  let word = 0n;
  for (let index = 0; index < length; index++) {
    const byte = view.getUint8(at + (hostLittleEndian ? length - 1 - index : index));
    word = (word << 8n) | BigInt(byte);
  }
  const shift = hostLittleEndian ? firstBit : length * 8 - firstBit - width;
  return { length, word, shift: BigInt(shift) };
}

/**
 * An unsigned bit field of up to 32 bits. firstBit counts from the byte at `at`: from its least significant bit on a
 * little-endian host, from its most significant bit on a big-endian one.
 */
export function readBits(view: DataView, at: number, firstBit: number, width: number): number {
  const { word, shift } = bitSpan(view, at, firstBit, width);
  return Number(BigInt.asUintN(width, word >> shift));
}

export function putBits(
  view: DataView,
  at: number,
  firstBit: number,
  width: number,
  value: number | undefined,
  field: string,
): void {
  if (value === undefined) {
    return;
  }
  checkNumber(value, 0, 2 ** width - 1, field);
  const { length, word, shift } = bitSpan(view, at, firstBit, width);
  const mask = ((1n << BigInt(width)) - 1n) << shift;
  let rest = (word & ~mask) | (BigInt(value) << shift);
  for (let index = 0; index < length; index++) {
    view.setUint8(at + (hostLittleEndian ? index : length - 1 - index), Number(rest & 0xffn));
    rest >>= 8n;
  }
}
