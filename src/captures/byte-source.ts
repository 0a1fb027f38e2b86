// SPDX-License-Identifier: Apache-2.0
/** Reads a file of any size front to back, one piece at a time. */

import { readSync } from 'node:fs';

const fileChunkBytes = 1 << 20;

/** Puts the next bytes at the start of `target` and says how many; 0 means the end. */
export type Fill = (target: Uint8Array) => number;

/**
 * What `take` and `peek` return are views of a chunk that is never written again, so they stay valid;
 * a view that is kept keeps its chunk in memory.
 */
export class ByteSource {
  readonly #fill: Fill;
  readonly #chunkBytes: number;
  #chunk = new Uint8Array(0);
  #start = 0;
  #end = 0;
  #offset = 0;
  #ended = false;

  constructor(fill: Fill, chunkBytes = fileChunkBytes) {
    this.#fill = fill;
    this.#chunkBytes = chunkBytes;
  }

  /** Bytes consumed so far: the place of the next byte in the file. */
  get offset(): number {
    return this.#offset;
  }

  /** The next `count` bytes without consuming them; fewer only at the end. */
  peek(count: number): Uint8Array {
    this.#ensure(count);
    return this.#chunk.subarray(this.#start, Math.min(this.#start + count, this.#end));
  }

  /** The next `count` bytes; fewer only at the end. */
  take(count: number): Uint8Array {
    const bytes = this.peek(count);
    this.#start += bytes.length;
    this.#offset += bytes.length;
    return bytes;
  }

  /** Consumes `count` bytes without keeping them; returns how many there were. */
  skip(count: number): number {
    let left = count;
    while (left > 0) {
      const skipped = this.take(Math.min(left, this.#chunkBytes)).length;
      if (skipped === 0) break;
      left -= skipped;
    }
    return count - left;
  }

  #ensure(count: number): void {
    const held = this.#end - this.#start;
    if (held >= count || this.#ended) return;
    const chunk = new Uint8Array(Math.max(this.#chunkBytes, count));
    chunk.set(this.#chunk.subarray(this.#start, this.#end));
    this.#chunk = chunk;
    this.#start = 0;
    this.#end = held;
    while (this.#end < count) {
      const got = this.#fill(chunk.subarray(this.#end));
      if (got === 0) {
        this.#ended = true;
        return;
      }
      this.#end += got;
    }
  }
}

/** Reads an open file from its current position. */
export function fileSource(fd: number): ByteSource {
  return new ByteSource((target) => readSync(fd, target, 0, target.length, null));
}

export function bytesSource(bytes: Uint8Array): ByteSource {
  let at = 0;
  const fill: Fill = (target) => {
    const part = bytes.subarray(at, at + target.length);
    target.set(part);
    at += part.length;
    return part.length;
  };
  return new ByteSource(fill, Math.max(1, Math.min(fileChunkBytes, bytes.length)));
}
