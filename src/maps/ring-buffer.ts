// SPDX-License-Identifier: Apache-2.0
/** RINGBUF maps, read through their memory: no thread, no epoll, no system call. */
import { VnicError } from '../errors.ts';
import type { Native } from '../loader/ffi/index.ts';
import { BpfMapType } from './generated/host.ts';
import type { BpfMap } from './map.ts';
import { expectShape } from './map-errors.ts';
import { Mapping, pageSize } from './mapping.ts';
import { type RingMemory, readRecords, unreadBytes } from './ring-reader.ts';

/**
 * Maps a ring buffer; it lives on when the map's descriptor is closed. A ring has one consumer: two would get each
 * other's records. Methods throw VnicError `failed` after `close()`.
 */
export class RingBuffer implements Disposable {
  readonly name: string;
  /** Bytes of records, headers included, that fit. */
  readonly sizeBytes: number;
  readonly #consumerPage: Mapping;
  readonly #producerPages: Mapping;
  #memory: RingMemory | null;

  /** Throws `abi_mismatch` when the map is no ring buffer. */
  constructor(native: Native, map: BpfMap) {
    expectShape(map, { types: [BpfMapType.ringbuf], keySize: 0, valueSize: 0 });
    const pageBytes = pageSize();
    const subject = `ring buffer ${map.name}`;
    this.name = map.name;
    this.sizeBytes = map.maxEntries;
    // Page 0 is the consumer's; page 1 the producer's, which is read only, with the ring twice in a row behind it.
    this.#consumerPage = new Mapping(
      native,
      map.fd.value,
      { offsetBytes: 0, lengthBytes: pageBytes, writable: true },
      subject,
    );
    try {
      this.#producerPages = new Mapping(
        native,
        map.fd.value,
        { offsetBytes: pageBytes, lengthBytes: pageBytes + 2 * this.sizeBytes, writable: false },
        subject,
      );
    } catch (error) {
      this.#consumerPage.close();
      throw error;
    }
    this.#memory = {
      sizeBytes: this.sizeBytes,
      consumer: new BigUint64Array(this.#consumerPage.buffer, 0, 1),
      producer: new BigUint64Array(this.#producerPages.buffer, 0, 1),
      data: new Uint8Array(this.#producerPages.buffer, pageBytes, 2 * this.sizeBytes),
    };
  }

  get #open(): RingMemory {
    if (this.#memory === null) throw new VnicError('failed', `Ring buffer ${this.name} was used after it was closed.`);
    return this.#memory;
  }

  /** Bytes that wait, headers included; `sizeBytes` less this is what programs can still reserve. */
  get unreadBytes(): number {
    return unreadBytes(this.#open);
  }

  /** Takes up to `limit` records, oldest first, as copies. Ends before one that a program is still writing. */
  drain(limit = Number.POSITIVE_INFINITY): Uint8Array<ArrayBuffer>[] {
    return [...readRecords(this.#open, limit)];
  }

  /** As `drain`, one by one: a record is taken when it is asked for. Do not close the ring in between. */
  records(limit = Number.POSITIVE_INFINITY): Generator<Uint8Array<ArrayBuffer>, void> {
    return readRecords(this.#open, limit);
  }

  /** Unmaps; does nothing when that is done already. What was not read waits for the next consumer. */
  close(): void {
    this.#memory = null;
    this.#producerPages.close();
    this.#consumerPage.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
