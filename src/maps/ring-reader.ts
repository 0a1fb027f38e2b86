// SPDX-License-Identifier: Apache-2.0
/**
 * The consumer's side of a BPF ring buffer over its memory. Pure. Source: Linux kernel/bpf/ringbuf.c,
 * Documentation/bpf/ringbuf.rst.
 *
 * A record is a header of 8 bytes (length and two flags, then a page offset that only the kernel needs) and its data,
 * rounded up to 8 bytes together. Both positions only grow; the place in the ring is the position modulo its size.
 */
import { VnicError } from '../errors.ts';

export const ringHeaderBytes = 8;
/** Reserved by a program that has not submitted it yet: neither it nor what follows can be read. */
export const ringBusyFlag = 0x8000_0000;
/** Given up by the program: to be passed over. */
export const ringDiscardFlag = 0x4000_0000;
const lengthMask = 0x3fff_ffff;

export interface RingMemory {
  /** Ring size in bytes, a power of two. */
  readonly sizeBytes: number;
  /** Element 0: how far this side has read, in bytes. Written by this side. */
  readonly consumer: BigUint64Array;
  /** Element 0: how far programs have reserved, in bytes. */
  readonly producer: BigUint64Array;
  /** The ring twice in a row, so that a record that wraps around is in one piece: 2 * sizeBytes. */
  readonly data: Uint8Array;
}

/** Bytes between the two positions: read by nobody yet, headers and records in the making included. */
export function unreadBytes({ consumer, producer }: RingMemory): number {
  return Number(Atomics.load(producer, 0) - Atomics.load(consumer, 0));
}

/**
 * Up to `limit` records, oldest first, as copies; the kernel may use a record's place again as soon as it was yielded.
 * Ends before a record that is being written. Throws `failed` when the memory is no ring buffer.
 */
export function* readRecords(ring: RingMemory, limit: number): Generator<Uint8Array<ArrayBuffer>, void> {
  const { sizeBytes, consumer, producer, data } = ring;
  const headers = new Uint32Array(data.buffer, data.byteOffset, data.byteLength / 4);
  for (let count = 0; count < limit; ) {
    const position = Atomics.load(consumer, 0);
    const unread = Number(Atomics.load(producer, 0) - position);
    if (unread === 0) return;
    const offset = Number(position % BigInt(sizeBytes));
    // The flags and the length are one word: when it is not busy, the data before it is complete.
    const header = Atomics.load(headers, offset / 4);
    if ((header & ringBusyFlag) !== 0) return;
    const length = header & lengthMask;
    const total = Math.ceil((ringHeaderBytes + length) / 8) * 8;
    if (total > unread || unread > sizeBytes) {
      throw new VnicError('failed', `The ring buffer is damaged: ${total} bytes at ${position}, ${unread} are there.`);
    }
    const record =
      (header & ringDiscardFlag) === 0
        ? data.slice(offset + ringHeaderBytes, offset + ringHeaderBytes + length)
        : undefined;
    Atomics.store(consumer, 0, position + BigInt(total));
    if (record !== undefined) {
      count += 1;
      yield record as Uint8Array<ArrayBuffer>;
    }
  }
}
