// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { loadNative, type Native } from '../../src/loader/ffi/index.ts';
import { VnicAzIndex, VnicAzPrefix } from '../../src/maps/generated/abi.ts';
import { BpfMapType, MapUpdateFlag } from '../../src/maps/generated/host.ts';
import { type BpfMap, bytesCodec, HashMap, type RawEntries, u32Codec, u64Codec } from '../../src/maps/index.ts';
import { createMap, disturbed } from '../support/maps.ts';
import { thrownBy } from '../support/thrown.ts';

const ENOENT = -2;
const ENOSPC = -28;
const ENOTSUPP = -524;

/** u32 keys from `first`, with ten times the key as value. */
function numbered(count: number, first = 0): RawEntries {
  const keys = Uint32Array.from({ length: count }, (_, index) => first + index);
  const values = BigUint64Array.from(keys, (key) => BigInt(key) * 10n);
  return { keys: new Uint8Array(keys.buffer), values: new Uint8Array(values.buffer), count };
}

function ascending(a: number, b: number): number {
  return a - b;
}

describe('hash maps', () => {
  const native = loadNative({ adapter: 'koffi' });
  const maps = new DisposableStack();
  after(() => maps.dispose());

  function hash(maxEntries: number, type: BpfMapType = BpfMapType.hash, kernel: Native = native) {
    const map = maps.use(createMap(native, { type, maxEntries }));
    return new HashMap(kernel, map, u32Codec, u64Codec);
  }

  it('sets, gives, finds and deletes', () => {
    const map = hash(4);
    assert.equal(map.get(7), undefined);
    assert.equal(map.has(7), false);
    map.set(7, 2n ** 64n - 1n);
    assert.equal(map.get(7), 2n ** 64n - 1n);
    assert.equal(map.has(7), true);
    assert.equal(map.delete(7), true);
    assert.equal(map.delete(7), false);
    assert.deepEqual([...map.entries()], []);
  });

  it('keeps keys and values of any bytes', () => {
    using raw = createMap(native, { keySize: 3, valueSize: 5 });
    const map = new HashMap(native, raw, bytesCodec(3), bytesCodec(5));
    map.set(Uint8Array.of(1, 0, 255), Uint8Array.of(9, 8));
    assert.deepEqual([...map.entries()], [[Uint8Array.of(1, 0, 255), Uint8Array.of(9, 8, 0, 0, 0)]]);
  });

  it('only adds or only replaces when asked to', () => {
    const map = hash(4);
    const missing = thrownBy(() => map.set(1, 1n, MapUpdateFlag.exist));
    assert.equal(missing.code, 'not_found');
    map.set(1, 1n, MapUpdateFlag.noexist);
    const there = thrownBy(() => map.set(1, 2n, MapUpdateFlag.noexist));
    assert.equal(there.code, 'conflict');
    const among = thrownBy(() => map.setMany(numbered(3), MapUpdateFlag.noexist));
    assert.deepEqual([among.code, among.details['entriesSet']], ['conflict', 1]);
    assert.deepEqual(map.get(1), 1n);
  });

  it('takes, lists and deletes 100,000 entries', () => {
    const map = hash(100_000);
    map.setMany(numbered(100_000));
    assert.equal(map.count(), 100_000);
    const seen = new Map(map.entries());
    assert.equal(seen.size, 100_000);
    for (const [key, value] of seen) assert.equal(value, BigInt(key) * 10n);
    let listed = 0;
    for (const { count } of map.batches()) listed += count;
    assert.equal(listed, 100_000, 'an entry came twice');

    // Half of these are not there.
    assert.equal(map.deleteMany(numbered(100_000, 50_000)), 50_000);
    assert.equal(map.count(), 50_000);
    assert.equal(map.has(50_000), false);
    assert.equal(map.has(49_999), true);
    assert.equal(map.clear(), 50_000);
    assert.equal(map.count(), 0);
  });

  it('passes over keys that are not there, wherever they stand among those to delete', () => {
    const map = hash(10_000);
    map.setMany(numbered(10_000));
    const gone = [0, 1, 4095, 4096, 4097, 8191, 9999];
    for (const key of gone) map.delete(key);
    assert.equal(map.deleteMany(numbered(10_000)), 10_000 - gone.length);
    assert.equal(map.deleteMany(numbered(10_000)), 0);
  });

  it('lists every other entry exactly once while entries are deleted', () => {
    const map = hash(20_000);
    map.setMany(numbered(20_000));
    const seen: number[] = [];
    for (const [key] of map.entries()) {
      seen.push(key);
      // The one listed, and an odd one anywhere.
      map.delete(key);
      map.delete(((key * 7919 + 1) % 20_000) | 1);
    }
    const even = seen.filter((key) => key % 2 === 0).sort(ascending);
    assert.deepEqual(
      even,
      Array.from({ length: 10_000 }, (_, index) => index * 2),
    );
    assert.equal(new Set(seen).size, seen.length);
    assert.equal(map.count(), 0);
  });

  it('ends listing while entries are added all the time', () => {
    const map = hash(50_000);
    map.setMany(numbered(1000));
    let next = 1_000_000;
    const seen = new Set<number>();
    for (const [key] of map.entries()) {
      seen.add(key);
      if (next < 1_049_000) map.set(next++, 0n);
    }
    for (let key = 0; key < 1000; key++) assert.ok(seen.has(key), `key ${key}`);
  });

  it('makes room when one bucket holds more than a batch', () => {
    let refusals = 0;
    // The batch is made so small that the real kernel refuses it until it has grown.
    const kernel = disturbed(native, {
      bpf_map_lookup_batch(fd, from, position, keys, values, cell, options) {
        const count = new Uint32Array(cell!.buffer, 0, 1);
        count[0] = Math.floor(count[0]! / 4096);
        const result = native.libbpf.bpf_map_lookup_batch(fd, from, position, keys, values, cell, options);
        if (result === ENOSPC) refusals += 1;
        return result;
      },
    });
    const map = hash(5000, BpfMapType.hash, kernel);
    map.setMany(numbered(5000));
    const keys = [...map.entries()].map(([key]) => key).sort(ascending);
    assert.deepEqual(
      keys,
      Array.from({ length: 5000 }, (_, index) => index),
    );
    assert.ok(refusals > 0, 'no bucket was too large for a batch');
  });

  it('says which map is full and how many entries it took', () => {
    for (const type of [BpfMapType.hash, BpfMapType.lpmTrie]) {
      const map = type === BpfMapType.hash ? hash(100) : trie(100);
      const entries = type === BpfMapType.hash ? numbered(101) : prefixes(101);
      const error = thrownBy(() => map.setMany(entries));
      assert.equal(error.code, 'capacity_exceeded');
      assert.match(error.message, /vnic_test is full.*100 entries \(max_entries\)/);
      assert.equal(error.details['entriesSet'], 100);
      assert.equal(map.count(), 100);
    }
    const map = hash(2);
    map.setMany(numbered(2));
    assert.equal(thrownBy(() => map.set(99, 1n)).code, 'capacity_exceeded');
  });

  it('does not let the kernel read beyond the entries given', () => {
    const map = hash(100);
    const { keys, values } = numbered(10);
    for (const wrong of [
      () => map.setMany({ keys, values, count: 11 }),
      () => map.setMany({ keys, values: values.subarray(1), count: 10 }),
      () => map.setMany({ keys, values, count: -1 }),
      () => map.deleteMany({ keys, count: 11 }),
    ]) {
      assert.match(thrownBy(wrong).message, /bytes of (keys|values) are needed/);
    }
    assert.equal(map.count(), 0);
  });

  it('drops old entries instead of refusing new ones when it is an LRU map', () => {
    const map = hash(1000, BpfMapType.lruHash);
    map.setMany(numbered(5000));
    map.set(4999, 1n);
    assert.equal(map.get(4999), 1n);
    const count = map.count();
    assert.ok(count > 0 && count <= 1000, `${count} entries`);
    assert.equal([...map.entries()].length, count);
  });

  it('does the same one by one where the kernel has no batches for the type', () => {
    const kernel = disturbed(native, {
      bpf_map_lookup_batch: () => ENOTSUPP,
      bpf_map_update_batch: () => ENOTSUPP,
      bpf_map_delete_batch: () => ENOTSUPP,
    });
    const map = hash(1000, BpfMapType.hash, kernel);
    map.setMany(numbered(900));
    assert.equal(new Map(map.entries()).get(899), 8990n);
    assert.equal(map.deleteMany(numbered(100, 850)), 50);
    assert.equal(map.count(), 850);
    const error = thrownBy(() => map.setMany(numbered(200, 5000)));
    assert.equal(error.code, 'capacity_exceeded');
    assert.equal(error.details['entriesSet'], 150);
    assert.equal(map.clear(), 1000);
  });

  /** Addresses of 32 bits, each a prefix of its own, in the value's and key's real types. */
  function prefixes(count: number): RawEntries {
    const map = trie(1);
    return map.pack(
      Array.from({ length: count }, (_, index) => [
        { prefixlen: 160, addr: { bytes: Uint8Array.of(0, 0, index >> 8, index & 255) } },
        { az: (index % 8) + 1 },
      ]),
    );
  }

  function trie(maxEntries: number, kernel: Native = native): HashMap<VnicAzPrefix, VnicAzIndex> {
    const map: BpfMap = maps.use(
      createMap(native, {
        type: BpfMapType.lpmTrie,
        keySize: VnicAzPrefix.size,
        valueSize: VnicAzIndex.size,
        maxEntries,
      }),
    );
    return new HashMap(kernel, map, VnicAzPrefix, VnicAzIndex);
  }

  /** An address of the given set as IPv4-mapped, with its prefix length; 32 bits stand for the set. */
  function prefix(set: number, address: readonly number[], bits: number) {
    return {
      prefixlen: 32 + 96 + bits,
      set,
      addr: { bytes: Uint8Array.of(...Array(10).fill(0), 255, 255, ...address) },
    };
  }

  it('gives the longest prefix that covers an address, and deletes exactly one', () => {
    const map = trie(16);
    map.set(prefix(0, [10, 0, 0, 0], 8), { az: 1 });
    map.set(prefix(0, [10, 1, 0, 0], 16), { az: 2 });
    map.set(prefix(0, [10, 1, 2, 0], 24), { az: 3 });
    map.set(prefix(1, [10, 1, 0, 0], 16), { az: 4 });
    const az = (address: readonly number[], set = 0) => map.get(prefix(set, address, 32))?.az;
    assert.deepEqual(
      [az([10, 9, 9, 9]), az([10, 1, 9, 9]), az([10, 1, 2, 9]), az([11, 0, 0, 1])],
      [1, 2, 3, undefined],
    );
    assert.deepEqual([az([10, 1, 2, 9], 1), az([10, 9, 9, 9], 1)], [4, undefined]);
    assert.equal(map.delete(prefix(0, [10, 1, 2, 0], 24)), true);
    assert.equal(map.delete(prefix(0, [10, 1, 2, 0], 24)), false);
    assert.equal(az([10, 1, 2, 9]), 2);
    const bitsByAz = [...map.entries()].map(([key, value]) => [value.az, key.prefixlen - 128] as const);
    assert.deepEqual(
      bitsByAz.sort(([a], [b]) => a - b),
      [
        [1, 8],
        [2, 16],
        [4, 16],
      ],
    );
  });

  it('lists a trie with the right values although each entry is deleted as it comes', () => {
    const map = trie(64);
    // Nested: a value looked up too late would be that of the shorter prefix.
    for (let bits = 1; bits <= 32; bits++) map.set(prefix(0, [255, 255, 255, 255], bits), { az: bits });
    const seen: [number, number][] = [];
    for (const [key, value] of map.entries()) {
      seen.push([key.prefixlen - 128, value.az]);
      for (let bits = 2; bits <= 32; bits++) map.delete(prefix(0, [255, 255, 255, 255], bits));
    }
    seen.sort(([a], [b]) => a - b);
    assert.deepEqual(
      seen,
      Array.from({ length: 32 }, (_, index) => [index + 1, index + 1]),
    );
  });

  it('lists what stays in a trie exactly once while keys vanish under the walk', () => {
    let steps = 0;
    const kernel = disturbed(native, {
      bpf_map_get_next_key(fd, previous, next) {
        steps += 1;
        // Every tenth time the key that the walk stands on is deleted, as another process could.
        if (previous !== null && steps % 10 === 0) native.libbpf.bpf_map_delete_elem(fd, previous);
        return native.libbpf.bpf_map_get_next_key(fd, previous, next);
      },
    });
    const map = trie(100, kernel);
    map.setMany(prefixes(100));
    const seen = [...map.entries()].map(([key]) => Buffer.from(key.addr.bytes).readUInt16BE(2));
    const undisturbed = new HashMap(native, map.map, VnicAzPrefix, VnicAzIndex);
    const left = [...undisturbed.entries()].map(([key]) => Buffer.from(key.addr.bytes).readUInt16BE(2));
    assert.ok(left.length < 100, 'nothing was deleted');
    assert.equal(new Set(seen).size, seen.length);
    assert.deepEqual(seen.sort(ascending), left.sort(ascending));
  });

  it('gives up a trie that changes faster than it can be read', () => {
    const kernel = disturbed(native, {
      bpf_map_get_next_key(fd, previous, next) {
        if (previous === null) return native.libbpf.bpf_map_get_next_key(fd, previous, next);
        // The key that the walk stands on is gone for a moment, each time.
        const value = native.memory.alloc(VnicAzIndex.size);
        assert.equal(native.libbpf.bpf_map_delete_elem(fd, previous), 0);
        const result = native.libbpf.bpf_map_get_next_key(fd, previous, next);
        assert.equal(native.libbpf.bpf_map_update_elem(fd, previous, value, 0n), 0);
        return result;
      },
    });
    const map = trie(8, kernel);
    map.setMany(prefixes(4));
    const error = thrownBy(() => map.count());
    assert.equal(error.code, 'conflict');
    assert.match(error.message, /vnic_test changes faster/);
  });

  it('reports what the kernel refuses, with the map and the call', () => {
    const kernel = disturbed(native, { bpf_map_lookup_elem: () => -16, bpf_map_get_next_key: () => ENOENT });
    const error = thrownBy(() => hash(4, BpfMapType.hash, kernel).get(1));
    assert.equal(error.code, 'kernel_refused');
    assert.match(error.message, /bpf_map_lookup_elem map vnic_test failed: EBUSY/);
  });
});
