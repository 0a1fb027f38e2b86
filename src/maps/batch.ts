// SPDX-License-Identifier: Apache-2.0
/**
 * Many entries with few system calls, as bytes. Source: Linux kernel/bpf/hashtab.c (__htab_map_lookup_and_delete_batch),
 * kernel/bpf/syscall.c (generic_map_*_batch), kernel/bpf/lpm_trie.c (trie_get_next_key).
 */
import { VnicError } from '../errors.ts';
import type { Native } from '../loader/ffi/index.ts';
import { BpfMapType, MapUpdateFlag } from './generated/host.ts';
import type { BpfMap } from './map.ts';
import { checkMap, ENOENT, ENOSPC, ENOTSUPP, EOPNOTSUPP } from './map-errors.ts';

/** Keys and values one after the other, without gaps: `count` of each. */
export interface RawEntries {
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
  readonly count: number;
}

/** Entries a system call; more would not be faster and holds memory. */
const chunkEntries = 4096;

/** How often a walk may go over the whole map, counted in keys, before it is given up. */
const maxWalkPasses = 16;

/** A walk by key starts again when its key vanishes, and a trie's batch look-up is such a walk. */
const walkedTypes: readonly BpfMapType[] = [BpfMapType.lpmTrie];

function lacksBatch(result: number): boolean {
  return result === -ENOTSUPP || result === -EOPNOTSUPP;
}

function u32Cell(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function u32In(bytes: Uint8Array): number {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, 1)[0]!;
}

/**
 * All entries, in parts. A part's memory is used again for the next one. Entries that are there from beginning to end
 * come exactly once, also while others come and go, and while the caller deletes what it got.
 */
export function* readBatches(native: Native, map: BpfMap): Generator<RawEntries, void> {
  if (walkedTypes.includes(map.type)) {
    yield walk(native, map);
    return;
  }
  const { keySize, valueSize } = map;
  let room = Math.min(chunkEntries, map.maxEntries);
  let keys = native.memory.alloc(room * keySize);
  let values = native.memory.alloc(room * valueSize);
  // The position is a bucket number in hashes and a key in arrays.
  const position = native.memory.alloc(Math.max(4, keySize));
  let from: Uint8Array | null = null;
  for (;;) {
    const cell = u32Cell(room);
    const result = native.libbpf.bpf_map_lookup_batch(map.fd.value, from, position, keys, values, cell, null);
    if (lacksBatch(result) && from === null) {
      yield walk(native, map);
      return;
    }
    if (result === -ENOSPC) {
      // One hash bucket holds more than there is room for; nothing was read, so the position stays.
      room *= 2;
      keys = native.memory.alloc(room * keySize);
      values = native.memory.alloc(room * valueSize);
      continue;
    }
    // ENOENT: these are the last ones.
    if (result !== -ENOENT) checkMap(native, map, result, 'bpf_map_lookup_batch');
    const count = u32In(cell);
    if (count > 0)
      yield { keys: keys.subarray(0, count * keySize), values: values.subarray(0, count * valueSize), count };
    if (result === -ENOENT) return;
    from = position;
  }
}

/**
 * Key by key, all at once: were the caller to delete between two steps, a trie would give the value of a shorter prefix
 * for the key that is gone. Throws `conflict` when others change the map faster than it can be read.
 */
function walk(native: Native, map: BpfMap): RawEntries {
  const { keySize, valueSize } = map;
  const { libbpf } = native;
  const seen = new Map<string, Uint8Array>();
  const next = native.memory.alloc(keySize);
  const stepLimit = maxWalkPasses * (map.maxEntries + 1);
  let previous: Uint8Array | null = null;
  for (let steps = 0; ; steps++) {
    const result = libbpf.bpf_map_get_next_key(map.fd.value, previous, next);
    if (result === -ENOENT) break;
    checkMap(native, map, result, 'bpf_map_get_next_key');
    if (steps === stepLimit) {
      throw new VnicError('conflict', `Map ${map.name} changes faster than it can be read.`, {
        remedy: 'Try again when fewer changes are made.',
        details: { map: map.name, steps },
      });
    }
    // A key met before: the previous one vanished and the walk began again. It goes on to what it has not met.
    previous = next.slice();
    seen.set(Buffer.from(previous).toString('latin1'), previous);
  }

  const keys = native.memory.alloc(seen.size * keySize);
  const values = native.memory.alloc(seen.size * valueSize);
  let count = 0;
  for (const key of seen.values()) {
    const value = values.subarray(count * valueSize, (count + 1) * valueSize);
    const result = libbpf.bpf_map_lookup_elem(map.fd.value, key, value);
    if (result === -ENOENT) continue;
    checkMap(native, map, result, 'bpf_map_lookup_elem');
    keys.set(key, count * keySize);
    count += 1;
  }
  return { keys: keys.subarray(0, count * keySize), values: values.subarray(0, count * valueSize), count };
}

/**
 * Sets many entries, in order. What an error leaves: the entries before the one that was refused are set; `details`
 * has their number as `entriesSet`.
 */
export function updateBatch(native: Native, map: BpfMap, entries: RawEntries, flags: MapUpdateFlag): void {
  const { keySize, valueSize } = map;
  const { keys, values, count } = entries;
  requireBytes(map, 'keys', keys, count * keySize);
  requireBytes(map, 'values', values, count * valueSize);
  // The kernel's batches know no flags but BPF_F_LOCK (generic_map_update_batch).
  if (flags !== MapUpdateFlag.any) {
    updateEach(native, map, entries, flags, 0);
    return;
  }
  let done = 0;
  while (done < count) {
    const size = Math.min(chunkEntries, count - done);
    const cell = u32Cell(size);
    const keyPart = keys.subarray(done * keySize, (done + size) * keySize);
    const valuePart = values.subarray(done * valueSize, (done + size) * valueSize);
    const result = native.libbpf.bpf_map_update_batch(map.fd.value, keyPart, valuePart, cell, null);
    if (lacksBatch(result)) {
      updateEach(native, map, entries, flags, done);
      return;
    }
    if (result < 0)
      throw stoppedAt(done + Math.min(u32In(cell), size), () => checkMap(native, map, result, 'bpf_map_update_batch'));
    done += size;
  }
}

function updateEach(
  native: Native,
  map: BpfMap,
  { keys, values, count }: RawEntries,
  flags: MapUpdateFlag,
  from: number,
): void {
  const { keySize, valueSize } = map;
  for (let index = from; index < count; index++) {
    const key = keys.subarray(index * keySize, (index + 1) * keySize);
    const value = values.subarray(index * valueSize, (index + 1) * valueSize);
    const result = native.libbpf.bpf_map_update_elem(map.fd.value, key, value, BigInt(flags));
    if (result < 0) throw stoppedAt(index, () => checkMap(native, map, result, 'bpf_map_update_elem'));
  }
}

/** The error that `fail` throws, with the number of entries that were set before it. */
function stoppedAt(entriesSet: number, fail: () => unknown): unknown {
  try {
    fail();
  } catch (error) {
    if (!(error instanceof VnicError)) return error;
    return new VnicError(error.code, error.message, {
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
      details: { ...error.details, entriesSet },
      cause: error.cause,
    });
  }
  return new VnicError('failed', 'A map operation failed without an error.');
}

/** Deletes many entries; keys that are not there are passed over. Returns how many were deleted. */
export function deleteBatch(native: Native, map: BpfMap, keys: Uint8Array, count: number): number {
  const { keySize } = map;
  requireBytes(map, 'keys', keys, count * keySize);
  let deleted = 0;
  let done = 0;
  while (done < count) {
    const size = Math.min(chunkEntries, count - done);
    const cell = u32Cell(size);
    const part = keys.subarray(done * keySize, (done + size) * keySize);
    const result = native.libbpf.bpf_map_delete_batch(map.fd.value, part, cell, null);
    if (lacksBatch(result)) return deleted + deleteEach(native, map, keys, count, done);
    if (result === -ENOENT) {
      // The kernel stops at a key that is not there; `cell` says how many it deleted before.
      deleted += u32In(cell);
      done += u32In(cell) + 1;
      continue;
    }
    checkMap(native, map, result, 'bpf_map_delete_batch');
    deleted += size;
    done += size;
  }
  return deleted;
}

function deleteEach(native: Native, map: BpfMap, keys: Uint8Array, count: number, from: number): number {
  const { keySize } = map;
  let deleted = 0;
  for (let index = from; index < count; index++) {
    const key = keys.subarray(index * keySize, (index + 1) * keySize);
    const result = native.libbpf.bpf_map_delete_elem(map.fd.value, key);
    if (result === -ENOENT) continue;
    checkMap(native, map, result, 'bpf_map_delete_elem');
    deleted += 1;
  }
  return deleted;
}

/** The kernel reads as many bytes as the count says, whatever the array's length. */
function requireBytes(map: BpfMap, what: string, bytes: Uint8Array, needed: number): void {
  if (Number.isInteger(needed) && needed >= 0 && bytes.length >= needed) return;
  throw new VnicError('failed', `Map ${map.name}: ${needed} bytes of ${what} are needed, ${bytes.length} were given.`);
}
