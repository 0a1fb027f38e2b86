// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  type RingMemory,
  readRecords,
  ringBusyFlag,
  ringDiscardFlag,
  ringHeaderBytes,
  unreadBytes,
} from '../../src/maps/ring-reader.ts';
import { thrownBy } from '../support/thrown.ts';

/** The kernel's side of a ring (kernel/bpf/ringbuf.c), in plain memory. */
class Producer {
  readonly memory: RingMemory;

  constructor(sizeBytes: number, startPosition: bigint) {
    this.memory = {
      sizeBytes,
      consumer: BigUint64Array.of(startPosition),
      producer: BigUint64Array.of(startPosition),
      data: new Uint8Array(2 * sizeBytes),
    };
  }

  /** Both halves show the same memory. */
  #put(position: bigint, bytes: Uint8Array): void {
    const { sizeBytes, data } = this.memory;
    const offset = Number(position % BigInt(sizeBytes));
    for (const [index, byte] of bytes.entries()) {
      data[(offset + index) % sizeBytes] = byte;
      data[((offset + index) % sizeBytes) + sizeBytes] = byte;
    }
  }

  #header(position: bigint, word: number): void {
    this.#put(position, new Uint8Array(Uint32Array.of(word, 0).buffer));
  }

  /** Position of the new record, or undefined when the ring is full. */
  reserve(length: number): bigint | undefined {
    const { sizeBytes, consumer, producer } = this.memory;
    const position = producer[0]!;
    const end = position + BigInt(Math.ceil((ringHeaderBytes + length) / 8) * 8);
    if (end - consumer[0]! > BigInt(sizeBytes - 1)) return undefined;
    this.#header(position, (length | ringBusyFlag) >>> 0);
    producer[0] = end;
    return position;
  }

  submit(position: bigint, bytes: Uint8Array): void {
    this.#put(position + BigInt(ringHeaderBytes), bytes);
    this.#header(position, bytes.length);
  }

  discard(position: bigint, length: number): void {
    this.#header(position, (length | ringDiscardFlag) >>> 0);
  }
}

function drain(ring: Producer, limit = Number.POSITIVE_INFINITY): number[][] {
  return [...readRecords(ring.memory, limit)].map((record) => [...record]);
}

describe('the reader of a ring buffer', () => {
  it('stops before a record that is being written, and takes it up later', () => {
    const ring = new Producer(128, 0n);
    const first = ring.reserve(3)!;
    const second = ring.reserve(3)!;
    ring.submit(second, Uint8Array.of(4, 5, 6));
    assert.deepEqual(drain(ring), []);
    assert.equal(unreadBytes(ring.memory), 32);
    ring.submit(first, Uint8Array.of(1, 2, 3));
    assert.deepEqual(drain(ring), [
      [1, 2, 3],
      [4, 5, 6],
    ]);
    assert.equal(unreadBytes(ring.memory), 0);
  });

  it('passes over what was given up, and does not count it', () => {
    const ring = new Producer(128, 0n);
    ring.discard(ring.reserve(9)!, 9);
    ring.submit(ring.reserve(1)!, Uint8Array.of(1));
    ring.submit(ring.reserve(1)!, Uint8Array.of(2));
    assert.deepEqual(drain(ring, 1), [[1]]);
    assert.deepEqual(drain(ring), [[2]]);
  });

  it('gives empty records and those that wrap around', () => {
    const ring = new Producer(64, 2n ** 40n + 48n);
    const long = Uint8Array.from({ length: 30 }, (_, index) => index);
    ring.submit(ring.reserve(30)!, long);
    ring.submit(ring.reserve(0)!, new Uint8Array());
    assert.deepEqual(drain(ring), [[...long], []]);
  });

  it('refuses memory that is no ring buffer instead of reading on for ever', () => {
    const ring = new Producer(64, 0n);
    ring.reserve(40);
    ring.discard(0n, 50);
    const error = thrownBy(() => drain(ring));
    assert.match(error.message, /damaged: 64 bytes at 0, 48 are there/);
    ring.memory.producer[0] = 8n;
    ring.memory.consumer[0] = 16n;
    assert.match(thrownBy(() => drain(ring)).message, /damaged/);
  });

  it('reads what any order of reserving, submitting, giving up and reading leaves', () => {
    type Open = { position: bigint; bytes: Uint8Array };
    const step = fc.oneof(
      fc.record({ kind: fc.constant('reserve' as const), bytes: fc.uint8Array({ maxLength: 90 }) }),
      fc.record({ kind: fc.constantFrom('submit' as const, 'discard' as const), which: fc.nat() }),
      fc.record({ kind: fc.constant('drain' as const), limit: fc.integer({ min: 0, max: 5 }) }),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(64, 128, 512),
        fc.bigInt({ min: 0n, max: 2n ** 52n }),
        fc.array(step, { maxLength: 120 }),
        (sizeBytes, start, steps) => {
          const ring = new Producer(sizeBytes, start * 8n);
          const open: Open[] = [];
          /** In the ring's order; undefined: in the making; null: given up. */
          const expected: { position: bigint; bytes: number[] | null | undefined }[] = [];
          const check = (limit: number) => {
            const wanted: number[][] = [];
            while (wanted.length < limit && expected.length > 0 && expected[0]!.bytes !== undefined) {
              const { bytes } = expected.shift()!;
              if (bytes != null) wanted.push(bytes);
            }
            assert.deepEqual(drain(ring, limit), wanted);
          };
          for (const next of steps) {
            if (next.kind === 'reserve') {
              const position = ring.reserve(next.bytes.length);
              if (position === undefined) continue;
              open.push({ position, bytes: next.bytes });
              expected.push({ position, bytes: undefined });
            } else if (next.kind === 'drain') {
              check(next.limit);
            } else if (open.length > 0) {
              const [{ position, bytes }] = open.splice(next.which % open.length, 1) as [Open];
              const entry = expected.find((candidate) => candidate.position === position)!;
              if (next.kind === 'submit') ring.submit(position, bytes);
              else ring.discard(position, bytes.length);
              entry.bytes = next.kind === 'submit' ? [...bytes] : null;
            }
          }
          for (const { position, bytes } of open) {
            ring.submit(position, bytes);
            expected.find((candidate) => candidate.position === position)!.bytes = [...bytes];
          }
          check(Number.POSITIVE_INFINITY);
          assert.equal(unreadBytes(ring.memory), 0);
        },
      ),
    );
  });
});
