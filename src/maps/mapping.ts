// SPDX-License-Identifier: Apache-2.0
/** Memory shared with the kernel: one mapping, one owner. */
import { readFileSync } from 'node:fs';

import type { Native } from '../loader/ffi/index.ts';
import { Libc } from './generated/host.ts';

/** Owns a mapping. After `close()` every typed array over it is detached: its length is 0. */
export class Mapping implements Disposable {
  readonly buffer: ArrayBuffer;
  readonly #native: Native;
  readonly #address: bigint;
  readonly #lengthBytes: number;
  #closed = false;

  /** Throws `kernel_refused` or `not_permitted` when the kernel does not map that. The kernel rounds up to pages. */
  constructor(
    native: Native,
    fd: number,
    range: { offsetBytes: number; lengthBytes: number; writable: boolean },
    subject: string,
  ) {
    const { offsetBytes, lengthBytes, writable } = range;
    const protection = writable ? Libc.protRead | Libc.protWrite : Libc.protRead;
    const address = native.libc.mmap(0n, lengthBytes, protection, Libc.mapShared, fd, BigInt(offsetBytes));
    this.#native = native;
    this.#address = native.check(address, 'mmap', subject);
    this.#lengthBytes = lengthBytes;
    try {
      this.buffer = native.memory.view(this.#address, lengthBytes);
    } catch (error) {
      native.libc.munmap(this.#address, lengthBytes);
      throw error;
    }
  }

  /** Unmaps; does nothing when that is done already. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#native.check(this.#native.libc.munmap(this.#address, this.#lengthBytes), 'munmap');
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** AT_PAGESZ of getauxval(3) (include/uapi/linux/auxvec.h). */
const auxvPageSize = 6n;

let pageBytes: number | undefined;

/** Bytes of a page of this machine: 4096 on x86-64, up to 65536 on arm64. */
export function pageSize(): number {
  pageBytes ??= readPageSize();
  return pageBytes;
}

function readPageSize(): number {
  const bytes = readFileSync('/proc/self/auxv');
  const words = new BigUint64Array(Uint8Array.from(bytes).buffer);
  for (let index = 0; index + 1 < words.length; index += 2) {
    if (words[index] === auxvPageSize) return Number(words[index + 1]);
  }
  return 4096;
}
