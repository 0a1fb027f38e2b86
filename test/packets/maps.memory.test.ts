// SPDX-License-Identifier: Apache-2.0
/** Maps that are read and written as memory, through both FFI adapters. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Native } from '../../src/loader/ffi/index.ts';
import type { BpfObject } from '../../src/loader/object.ts';
import { ProgramRunner } from '../../src/loader/program.ts';
import { BpfMapType, MapFlag } from '../../src/maps/generated/host.ts';
import {
  ArrayMap,
  BpfMap,
  bytesCodec,
  HashMap,
  MappedArray,
  RingBuffer,
  u32Codec,
  u64Codec,
} from '../../src/maps/index.ts';
import { describeEachAdapter, requireRoot } from '../support/ffi.ts';
import { Cell, createMap, loadMapsObject } from '../support/maps.ts';
import { thrownBy } from '../support/thrown.ts';

const ethernetBytes = 14;
const ringHeaderBytes = 8;
const scratchBytes = 4096;

function bpfMappings(): number {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('bpf-map')).length;
}

describeEachAdapter('maps as memory', (fixture) => {
  let native: Native;
  let object: BpfObject;
  let mappingsBefore: number;
  const cleanup = new DisposableStack();

  before(function () {
    requireRoot(this);
    ({ native } = fixture);
    mappingsBefore = bpfMappings();
    object = cleanup.use(loadMapsObject(native));
  });
  after(() => cleanup.dispose());

  function open(name: string): BpfMap {
    return cleanup.use(BpfMap.fromFd(native, object.mapFd(name)));
  }

  function run(name: string, packet = new Uint8Array(64)): number {
    using program = object.programFd(name);
    return new ProgramRunner(native, program, { maxInputBytes: packet.length }).run(packet).returnValue;
  }

  describe('a mapped array', () => {
    afterEach(() => assert.equal(bpfMappings(), mappingsBefore, 'a mapping was left'));

    it('shows at once what a system call wrote, and the other way round', () => {
      const map = open('cells');
      using mapped = new MappedArray(native, map, Cell);
      const array = new ArrayMap(native, map, Cell);
      assert.deepEqual([mapped.length, mapped.stride], [1000, 16]);
      for (const index of [0, 1, 999]) {
        const value = { input: index, output: 0xffff_ffff, weight: 0xabcd, name: Uint8Array.of(1, 2) };
        array.set(index, value);
        assert.deepEqual(mapped.read(index), value);
        mapped.write(index, { weight: 3, name: Uint8Array.of(9) });
        assert.deepEqual(array.get(index), { input: 0, output: 0, weight: 3, name: Uint8Array.of(9, 0) });
        mapped.put(index, { output: 5 });
        assert.deepEqual(array.get(index), { input: 0, output: 5, weight: 3, name: Uint8Array.of(9, 0) });
      }
      mapped.bytes(500).set([1, 0, 0, 0, 2]);
      assert.deepEqual([array.get(500).input, array.get(500).output], [1, 2]);
      assert.equal(mapped.bytes(500).length, 12);
    });

    it('exchanges values with a program', () => {
      using mapped = new MappedArray(native, open('cells'), Cell);
      mapped.storeU32(0, Cell.offsets.input, 41);
      mapped.storeU32(999, Cell.offsets.input, 0xffff_fffe);
      run('answer');
      assert.equal(mapped.u32(0, Cell.offsets.output), 42);
      assert.equal(mapped.u32(999, Cell.offsets.output), 0xffff_ffff);
    });

    it('stores and loads single fields and gives rows in place', () => {
      using map = createMap(native, { type: BpfMapType.array, valueSize: 12, maxEntries: 3, flags: MapFlag.mmapable });
      using mapped = new MappedArray(native, map, Cell);
      mapped.storeU64(2, 0, 2n ** 64n - 2n);
      assert.equal(mapped.u64(2, 0), 2n ** 64n - 2n);
      assert.deepEqual([...mapped.u32Row(2)], [0xffff_fffe, 0xffff_ffff, 0]);
      mapped.u16Row(1)[5] = 0x0201;
      assert.deepEqual(mapped.read(1).name, Uint8Array.of(1, 2));
      assert.equal(mapped.u16Row(1).length, 6);
      const whole = mapped.asBigUint64();
      assert.equal(whole.length, 6);
      assert.deepEqual([whole[3], whole[4]], [0x0201_0000n, 2n ** 64n - 2n]);
      mapped.storeU32(0, 8, 7);
      assert.equal(whole[1], 7n);
    });

    it('refuses elements and fields that it does not have, and values that do not fit', () => {
      using mapped = new MappedArray(native, open('cells'), Cell);
      for (const index of [1000, -1, 0.5]) {
        assert.equal(thrownBy(() => mapped.read(index)).code, 'capacity_exceeded');
        assert.equal(thrownBy(() => mapped.storeU32(index, 0, 1)).code, 'capacity_exceeded');
        assert.equal(thrownBy(() => mapped.u16Row(index)).code, 'capacity_exceeded');
        assert.equal(thrownBy(() => mapped.bytes(index)).code, 'capacity_exceeded');
      }
      assert.throws(() => mapped.storeU32(0, 2, 1), /no aligned field of 4 bytes at offset 2/);
      assert.throws(() => mapped.storeU32(0, 12, 1), /no aligned field/);
      assert.throws(() => mapped.storeU32(0, -4, 1), /no aligned field/);
      assert.throws(() => mapped.u64(0, 8), /no aligned field of 8 bytes at offset 8/);
      assert.throws(() => mapped.storeU32(0, 0, 2 ** 32), /does not fit a u32/);
      assert.throws(() => mapped.storeU64(0, 0, -1n), /does not fit a u64/);
    });

    it('cannot be written through methods when it is mapped to be read only', () => {
      const map = open('cells');
      using mapped = new MappedArray(native, map, Cell, { readOnly: true });
      new ArrayMap(native, map, Cell).set(3, { input: 33 });
      assert.equal(mapped.read(3).input, 33);
      for (const write of [
        () => mapped.write(3, {}),
        () => mapped.put(3, { input: 1 }),
        () => mapped.storeU32(3, 0, 1),
        () => mapped.storeU64(3, 0, 1n),
      ]) {
        assert.match(thrownBy(write).message, /cells is mapped to be read only/);
      }
      assert.equal(mapped.read(3).input, 33);
    });

    it('lives on without the map, and is gone for everyone once it is closed', () => {
      const map = BpfMap.fromFd(native, object.mapFd('cells'));
      const mapped = new MappedArray(native, map, Cell);
      map.close();
      mapped.storeU32(7, 0, 77);
      assert.equal(mapped.u32(7, 0), 77);

      const row = mapped.u16Row(7);
      const bytes = mapped.bytes(7);
      mapped.close();
      mapped.close();
      assert.deepEqual([row.length, bytes.length], [0, 0]);
      for (const use of [
        () => mapped.read(7),
        () => mapped.write(7, {}),
        () => mapped.put(7, {}),
        () => mapped.bytes(7),
        () => mapped.u32(7, 0),
        () => mapped.u64(7, 0),
        () => mapped.storeU32(7, 0, 1),
        () => mapped.storeU64(7, 0, 1n),
        () => mapped.u16Row(7),
        () => mapped.u32Row(7),
        () => mapped.asBigUint64(),
      ]) {
        assert.match(thrownBy(use).message, /cells was used after it was closed/);
      }
    });

    it('can be mapped again and again, in other sizes at the same addresses', () => {
      for (let round = 1; round <= 50; round++) {
        using map = createMap(native, {
          type: BpfMapType.array,
          valueSize: 12,
          maxEntries: round * 100,
          flags: MapFlag.mmapable,
        });
        using mapped = new MappedArray(native, map, Cell);
        mapped.storeU32(round * 100 - 1, 0, round);
        assert.equal(new ArrayMap(native, map, Cell).get(round * 100 - 1).input, round);
      }
    });

    it('is refused for a map that was made without BPF_F_MMAPABLE or with values of another size', () => {
      using plain = createMap(native, { type: BpfMapType.array, valueSize: 12 });
      assert.match(thrownBy(() => new MappedArray(native, plain, Cell)).message, /without BPF_F_MMAPABLE/);
      using wide = createMap(native, { type: BpfMapType.array, valueSize: 16, flags: MapFlag.mmapable });
      assert.equal(thrownBy(() => new MappedArray(native, wide, Cell)).code, 'abi_mismatch');
    });
  });

  describe('a ring buffer', () => {
    let ring: RingBuffer;
    /** What each record holds behind its number. */
    const pattern = Uint8Array.from({ length: scratchBytes }, (_, index) => (index * 31 + 7) % 256);

    before(() => {
      new ArrayMap(native, open('scratch'), bytesCodec(scratchBytes)).set(0, pattern);
    });
    beforeEach(() => {
      ring = new RingBuffer(native, open('ring'));
      ring.drain();
    });
    afterEach(() => {
      ring.close();
      assert.equal(bpfMappings(), mappingsBefore, 'a mapping was left');
    });

    /** `refused` counts from the object's beginning. */
    function progress(): { sequence: number; refused: number } {
      const [word] = [...new ArrayMap(native, open('progress'), u64Codec).values()];
      return { sequence: Number(word! & 0xffff_ffffn), refused: Number(word! >> 32n) };
    }

    /** Has a program write records; returns the number of the first one. */
    function emit(count: number, bytes: number, discardEvery = 0): number {
      const { sequence } = progress();
      const packet = new Uint8Array(64);
      new Uint8Array(packet.buffer, ethernetBytes).set(
        new Uint8Array(Uint32Array.of(count, bytes, discardEvery).buffer),
      );
      assert.equal(run('emit', packet), 2);
      return sequence;
    }

    function numberOf(record: Uint8Array): number {
      return new DataView(record.buffer, record.byteOffset).getUint32(0, true);
    }

    function checkRecords(records: readonly Uint8Array[], first: number, bytes: number): void {
      for (const [index, record] of records.entries()) {
        assert.equal(record.length, bytes);
        assert.equal(numberOf(record), first + index);
        assert.ok(Buffer.from(record.subarray(4)).equals(pattern.subarray(4, bytes)), `record ${first + index}`);
      }
    }

    it('gives each record once, in order, whatever its length', () => {
      assert.deepEqual(ring.drain(), []);
      for (const bytes of [4, 5, 7, 8, 9, 15, 16, 17, 100, 4095]) {
        const first = emit(5, bytes);
        assert.equal(ring.unreadBytes, 5 * Math.ceil((ringHeaderBytes + bytes) / 8) * 8);
        const records = ring.drain();
        assert.equal(records.length, 5);
        checkRecords(records, first, bytes);
        assert.equal(ring.unreadBytes, 0);
        assert.deepEqual(ring.drain(), []);
      }
    });

    it('goes on over the end of its memory, many times', () => {
      let total = 0;
      let wrapped = 0;
      for (let round = 0; round < 200; round++) {
        const bytes = 900 + ((round * 37) % 1500);
        const first = emit(20, bytes);
        const records = ring.drain();
        assert.equal(records.length, 20);
        checkRecords(records, first, bytes);
        const before = Math.floor(total / ring.sizeBytes);
        total += 20 * Math.ceil((ringHeaderBytes + bytes) / 8) * 8;
        wrapped += Math.floor(total / ring.sizeBytes) - before;
      }
      assert.ok(wrapped > 50, `${wrapped} times`);
    });

    it('passes over records that the program gave up', () => {
      const first = emit(12, 40, 3);
      const records = ring.drain();
      assert.equal(records.length, 12);
      checkRecords(records, first, 40);
    });

    it('keeps what fits when it is full, and takes more once it was read', () => {
      const { refused } = progress();
      const bytes = 1000;
      const fits = Math.floor((ring.sizeBytes - 1) / Math.ceil((ringHeaderBytes + bytes) / 8) / 8);
      const first = emit(100, bytes);
      assert.equal(progress().refused - refused, 100 - fits);
      assert.ok(ring.unreadBytes <= ring.sizeBytes);
      const records = ring.drain();
      assert.equal(records.length, fits);
      checkRecords(records, first, bytes);
      const next = emit(3, bytes);
      checkRecords(ring.drain(), next, bytes);
      assert.equal(progress().refused - refused, 100 - fits);
    });

    it('leaves behind what was not asked for, also for the next consumer', () => {
      const first = emit(10, 24);
      checkRecords(ring.drain(4), first, 24);
      for (const record of ring.records()) {
        assert.equal(numberOf(record), first + 4);
        break;
      }
      assert.deepEqual(ring.drain(0), []);
      ring.close();
      ring = new RingBuffer(native, open('ring'));
      const rest = ring.drain();
      assert.equal(rest.length, 5);
      checkRecords(rest, first + 5, 24);
    });

    it('cannot be used after it was closed, and keeps its records valid', () => {
      const first = emit(1, 16);
      const [record] = ring.drain();
      ring.close();
      ring.close();
      assert.equal(numberOf(record!), first);
      for (const use of [() => ring.drain(), () => ring.unreadBytes, () => ring.records()]) {
        assert.match(thrownBy(use).message, /ring was used after it was closed/);
      }
    });

    it('is refused for a map of another type', () => {
      assert.equal(thrownBy(() => new RingBuffer(native, open('cells'))).code, 'abi_mismatch');
    });
  });

  it('sets, lists and deletes in batches', () => {
    using map = createMap(native, { maxEntries: 5000 });
    const hash = new HashMap(native, map, u32Codec, u64Codec);
    const keys = Uint32Array.from({ length: 5000 }, (_, index) => index * 3);
    const values = BigUint64Array.from(keys, (key) => BigInt(key) << 40n);
    hash.setMany({ keys: new Uint8Array(keys.buffer), values: new Uint8Array(values.buffer), count: 5000 });
    const listed = new Map(hash.entries());
    assert.equal(listed.size, 5000);
    for (const [key, value] of listed) assert.equal(value, BigInt(key) << 40n);
    assert.equal(hash.deleteMany({ keys: new Uint8Array(keys.buffer), count: 5000 }), 5000);
    assert.equal(hash.count(), 0);
  });

  it('reads the description of a map', () => {
    assert.equal(open('described').btf()?.key?.size, 12);
  });
});
