// SPDX-License-Identifier: Apache-2.0
import { VnicError } from '../../errors.ts';

/** Reads integers from bytes of either byte order; a read beyond the end is a VnicError that names what was read. */
export class Cursor {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #littleEndian: boolean;
  readonly #what: string;

  constructor(bytes: Uint8Array, littleEndian: boolean, what: string) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#bytes = bytes;
    this.#littleEndian = littleEndian;
    this.#what = what;
  }

  get length(): number {
    return this.#bytes.length;
  }

  u8(offset: number): number {
    this.#need(offset, 1);
    return this.#view.getUint8(offset);
  }

  u16(offset: number): number {
    this.#need(offset, 2);
    return this.#view.getUint16(offset, this.#littleEndian);
  }

  u32(offset: number): number {
    this.#need(offset, 4);
    return this.#view.getUint32(offset, this.#littleEndian);
  }

  i32(offset: number): number {
    this.#need(offset, 4);
    return this.#view.getInt32(offset, this.#littleEndian);
  }

  u64(offset: number): bigint {
    this.#need(offset, 8);
    return this.#view.getBigUint64(offset, this.#littleEndian);
  }

  /** A u64 that is a file offset or a size: it must fit a safe integer. */
  size(offset: number): number {
    const value = this.u64(offset);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw damaged(this.#what, `the size at byte ${offset} is ${value}`);
    }
    return Number(value);
  }

  /** A view, not a copy. */
  slice(offset: number, length: number): Uint8Array {
    this.#need(offset, length);
    return this.#bytes.subarray(offset, offset + length);
  }

  #need(offset: number, length: number): void {
    if (offset < 0 || offset + length > this.#bytes.length) {
      throw damaged(this.#what, `it ends at byte ${this.#bytes.length}, but byte ${offset + length} is needed`);
    }
  }
}

/** The error for input that contradicts its own format. */
export function damaged(what: string, problem: string): VnicError {
  return new VnicError('failed', `The ${what} is damaged: ${problem}.`, {
    remedy: 'Rebuild the object file (make build) or reinstall the package that it came from.',
  });
}
