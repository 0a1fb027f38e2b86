// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { closeSync, existsSync, fstatSync, rmSync } from 'node:fs';
import type { Fd } from '../../src/loader/fd.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import type { BpfObject } from '../../src/loader/object.ts';
import { ProgramRunner, programInfo } from '../../src/loader/program.ts';
import type { Layout } from '../../src/maps/btf/index.ts';
import { BpfMapType, MapFlag, XdpAction } from '../../src/maps/generated/host.ts';
import {
  ArrayMap,
  BpfMap,
  CpuMap,
  checkLayout,
  declaredLayouts,
  HashMap,
  MapOfMaps,
  maxCpuQueuePackets,
  PerCpuArray,
  ProgArray,
  u32Codec,
  u64Codec,
} from '../../src/maps/index.ts';
import { Cell, createMap, loadMapsObject } from '../support/maps.ts';
import { thrownBy } from '../support/thrown.ts';

const frame = new Uint8Array(64);

describe('BPF maps', () => {
  const native = loadNative({ adapter: 'koffi' });
  const cpus = native.libbpf.libbpf_num_possible_cpus();
  const cleanup = new DisposableStack();
  let object: BpfObject;

  before(() => {
    object = cleanup.use(loadMapsObject(native, { maps: { cpus: { maxEntries: cpus + 1 } } }));
  });
  after(() => cleanup.dispose());

  function open(name: string): BpfMap {
    return cleanup.use(BpfMap.fromFd(native, object.mapFd(name)));
  }

  function program(name: string): Fd {
    return cleanup.use(object.programFd(name));
  }

  function run(name: string): number {
    return new ProgramRunner(native, program(name), { maxInputBytes: frame.length }).run(frame).returnValue;
  }

  describe('a map', () => {
    const pin = `/sys/fs/bpf/vnic-test-maps-${process.pid}`;
    afterEach(() => rmSync(pin, { force: true }));

    it('says what it is', () => {
      const map = open('cells');
      assert.deepEqual(
        [map.type, map.name, map.keySize, map.valueSize, map.maxEntries, map.flags],
        [BpfMapType.array, 'cells', 4, 12, 1000, MapFlag.mmapable],
      );
      using again = BpfMap.fromId(native, map.id);
      assert.equal(again.id, map.id);
      assert.notEqual(again.fd.value, map.fd.value);
    });

    it('can be pinned and found by its pin, and outlives its descriptor there', () => {
      const map = createMap(native);
      new HashMap(native, map, u32Codec, u64Codec).set(1, 11n);
      map.pin(pin);
      const { id } = map;
      map.close();
      using found = BpfMap.fromPin(native, pin);
      assert.equal(found.id, id);
      assert.equal(new HashMap(native, found, u32Codec, u64Codec).get(1), 11n);
      const error = thrownBy(() => found.pin(pin));
      assert.equal(error.code, 'conflict');
      assert.match(error.message, /vnic-test-maps/);
    });

    it('is not found where nothing is pinned and under an id that nothing has', () => {
      assert.ok(!existsSync(pin));
      assert.equal(thrownBy(() => BpfMap.fromPin(native, pin)).code, 'not_found');
      assert.equal(thrownBy(() => BpfMap.fromId(native, 0xffff_fffe)).code, 'not_found');
    });

    it('is not mistaken for a program that is pinned in its place', () => {
      native.check(native.libbpf.bpf_obj_pin(program('landing').value, pin), 'bpf_obj_pin', pin);
      const error = thrownBy(() => BpfMap.fromPin(native, pin));
      assert.equal(error.code, 'conflict');
      assert.match(error.message, /vnic-test-maps.*bpf-prog/);
    });

    it('duplicates a plain descriptor number and takes over an owned one', () => {
      using original = createMap(native);
      const duplicate = BpfMap.fromFd(native, original.fd.value);
      assert.notEqual(duplicate.fd.value, original.fd.value);
      duplicate.close();
      assert.equal(new HashMap(native, original, u32Codec, u64Codec).count(), 0);

      const owned = object.mapFd('cells');
      const number = owned.value;
      BpfMap.fromFd(native, owned).close();
      assert.ok(owned.closed);
      assert.throws(() => fstatSync(number), /EBADF/);
    });

    it('closes the descriptor that it was given when that is no map', () => {
      const owned = object.programFd('landing');
      assert.equal(thrownBy(() => BpfMap.fromFd(native, owned)).code, 'conflict');
      assert.ok(owned.closed);
    });

    it('cannot be used after it was closed', () => {
      const map = createMap(native);
      const hash = new HashMap(native, map, u32Codec, u64Codec);
      map.close();
      map.close();
      for (const use of [
        () => hash.get(1),
        () => hash.set(1, 1n),
        () => hash.delete(1),
        () => hash.count(),
        () => hash.setMany(hash.pack([[1, 1n]])),
        () => hash.deleteMany(hash.pack([[1, 1n]])),
        () => map.pin(pin),
      ]) {
        assert.match(thrownBy(use).message, /after it was closed/);
      }
      assert.ok(!existsSync(pin));
    });

    it('is refused with its size when the kernel has no room for it', () => {
      const error = thrownBy(() =>
        createMap(native, { type: BpfMapType.array, valueSize: 0x7fff_ffff, maxEntries: 0xffff_ffff }),
      );
      assert.equal(error.code, 'capacity_exceeded');
      assert.match(error.message, /vnic_test .*max_entries 4294967295/);
    });

    it('is refused under codecs of another size and as a map of another type', () => {
      using map = createMap(native);
      for (const wrong of [
        () => new HashMap(native, map, u64Codec, u64Codec),
        () => new HashMap(native, map, u32Codec, u32Codec),
        () => new ArrayMap(native, map, u64Codec),
        () => new PerCpuArray(native, map, u64Codec),
        () => new ProgArray(native, map),
        () => new CpuMap(native, map),
        () => new MapOfMaps(native, map),
      ]) {
        const error = thrownBy(wrong);
        assert.equal(error.code, 'abi_mismatch');
        assert.match(error.message, /vnic_test is a hash with keys of 4 and values of 8 bytes/);
      }
    });
  });

  describe('the layout of a map', () => {
    /** The layout with the members changed. */
    function edited(layout: Layout | undefined, edit: (name: string, offset: number) => [string, number]): Layout {
      assert.ok(layout?.kind === 'struct');
      return {
        ...layout,
        members: layout.members.map((member) => {
          const [name, offset] = edit(member.name, member.offset);
          return { ...member, name, offset };
        }),
      };
    }

    it('is accepted when it is the declared one', () => {
      for (const name of ['cells', 'described', 'totals', 'targets', 'cpus', 'scratch', 'ring']) {
        checkLayout(open(name), declaredLayouts(object.btf, name));
      }
      const described = open('described').btf();
      assert.equal(described?.key?.name, 'cell');
      assert.equal(described?.value?.name, 'total');
    });

    it('is refused, with both layouts, when a field has another name or place', () => {
      const map = open('described');
      const { key, value } = declaredLayouts(object.btf, 'described');
      const renamed = edited(key, (name, offset) => [name === 'weight' ? 'cost' : name, offset]);
      const error = thrownBy(() => checkLayout(map, { key: renamed, value }));
      assert.equal(error.code, 'abi_mismatch');
      assert.match(error.message, /The key of map described .*cost is expected where it has weight/);
      assert.match(String(error.details['expected']), /__u16 cost/);
      assert.match(String(error.details['actual']), /__u16 weight/);

      const moved = edited(key, (name, offset) => [name, name === 'weight' ? 10 : offset]);
      assert.match(
        thrownBy(() => checkLayout(map, { key: moved, value })).message,
        /weight is expected at byte 10, it is at byte 8/,
      );
      assert.match(
        thrownBy(() => checkLayout(map, { key, value: key })).message,
        /The value of map described .*12 bytes|input is expected where it has hits/,
      );
    });

    it('is compared by size where the kernel has no description', () => {
      using plain = createMap(native, { keySize: 12, valueSize: 8 });
      const { key, value } = declaredLayouts(object.btf, 'described');
      assert.equal(plain.btf(), undefined);
      checkLayout(plain, { key, value });
      checkLayout(plain, { key: undefined, value });
      const error = thrownBy(() => checkLayout(plain, { key: value, value }));
      assert.equal(error.code, 'abi_mismatch');
      assert.match(error.message, /key of map vnic_test .*8 bytes are expected, it has 12/);
      assert.equal(error.details['actual'], '12 bytes, not described');
    });
  });

  describe('an array', () => {
    it('gives and takes elements, and lists all in order', () => {
      const map = createMap(native, { type: BpfMapType.array, maxEntries: 10_000 });
      cleanup.use(map);
      const array = new ArrayMap(native, map, u64Codec);
      assert.equal(array.length, 10_000);
      array.set(0, 1n);
      array.set(9_999, 2n ** 64n - 1n);
      assert.equal(array.get(9_999), 2n ** 64n - 1n);
      const values = [...array.values()];
      assert.equal(values.length, 10_000);
      assert.deepEqual([values[0], values[1], values[9_999]], [1n, 0n, 2n ** 64n - 1n]);
    });

    it('refuses an index that it does not have', () => {
      using map = createMap(native, { type: BpfMapType.array });
      const array = new ArrayMap(native, map, u64Codec);
      for (const index of [16, -1, 0.5, Number.NaN]) {
        const error = thrownBy(() => array.get(index));
        assert.equal(error.code, 'capacity_exceeded');
        assert.match(error.message, /vnic_test has 16 elements/);
        assert.equal(thrownBy(() => array.set(index, 1n)).code, 'capacity_exceeded');
      }
    });
  });

  describe('an array for each CPU', () => {
    it('has a value for each possible CPU', () => {
      using map = createMap(native, { type: BpfMapType.percpuArray, valueSize: 12 });
      const array = new PerCpuArray(native, map, Cell);
      assert.equal(array.cpus, cpus);
      const values = Array.from({ length: cpus }, (_, cpu) => ({
        input: cpu + 1,
        output: 0xffff_fff0 + (cpu % 16),
        weight: 7,
        name: Uint8Array.of(cpu % 256, 2),
      }));
      array.set(15, values);
      assert.deepEqual(array.get(15), values);
      assert.deepEqual(
        array.get(14).map(({ input }) => input),
        values.map(() => 0),
      );
      assert.match(thrownBy(() => array.set(15, [...values, {}])).message, /a value for each/);
      assert.equal(thrownBy(() => array.get(16)).code, 'capacity_exceeded');
    });

    it('shows what a program counted', () => {
      const array = new PerCpuArray(native, open('totals'), u64Codec);
      const sum = () => array.get(3).reduce((total, value) => total + value, 0n);
      const before = sum();
      run('count');
      run('count');
      assert.equal(sum() - before, 2n);
    });
  });

  describe('a program array', () => {
    it('sends packets to the program in a slot, until that is taken out', () => {
      const targets = new ProgArray(native, open('targets'));
      assert.equal(targets.get(1), undefined);
      assert.equal(run('jump'), XdpAction.pass);
      targets.set(1, program('landing'));
      assert.equal(targets.get(1), programInfo(native, program('landing')).id);
      assert.equal(run('jump'), XdpAction.tx);
      assert.equal(targets.delete(1), true);
      assert.equal(targets.delete(1), false);
      assert.equal(run('jump'), XdpAction.pass);
    });

    it('refuses a program of another type and a slot that it does not have', () => {
      const targets = new ProgArray(native, open('targets'));
      const error = thrownBy(() => targets.set(0, program('other_type').value));
      assert.equal(error.code, 'kernel_refused');
      assert.match(error.message, /slot 0 of program array targets/);
      assert.equal(thrownBy(() => targets.set(2, program('landing'))).code, 'capacity_exceeded');
    });
  });

  describe('a CPU map', () => {
    it('holds a queue and a program for a CPU', () => {
      const map = new CpuMap(native, open('cpus'));
      assert.equal(map.get(0), undefined);
      map.set(0, { qsize: 192, progFd: program('on_cpu') });
      assert.deepEqual(map.get(0), { qsize: 192, progId: programInfo(native, program('on_cpu')).id });
      assert.equal(map.delete(0), true);
      assert.equal(map.delete(0), false);
      map.set(0, { qsize: maxCpuQueuePackets });
      assert.deepEqual(map.get(0), { qsize: maxCpuQueuePackets, progId: undefined });
      map.delete(0);
    });

    it('names a CPU that does not exist', () => {
      const map = new CpuMap(native, open('cpus'));
      const error = thrownBy(() => map.set(cpus, { qsize: 192 }));
      assert.equal(error.code, 'not_found');
      assert.equal(error.message, `CPU ${cpus} does not exist on this machine.`);
      assert.deepEqual([error.details['cpu'], error.details['errno']], [cpus, 'ENODEV']);
    });

    it('refuses a queue size that would delete the entry or that the kernel does not have, and a wrong program', () => {
      const map = new CpuMap(native, open('cpus'));
      map.set(0, { qsize: 64 });
      for (const qsize of [0, -1, 1.5, maxCpuQueuePackets + 1]) {
        assert.match(thrownBy(() => map.set(0, { qsize })).message, /cannot hold/);
      }
      assert.equal(map.get(0)?.qsize, 64);
      const error = thrownBy(() => map.set(0, { qsize: 64, progFd: program('landing') }));
      assert.equal(error.code, 'kernel_refused');
      assert.match(error.message, /entry of CPU 0 of map cpus cannot be made with this program/);
      map.delete(0);
    });
  });

  describe('a map of maps', () => {
    it('keeps a map alive, gives its id and lets it go', () => {
      using template = createMap(native);
      using outer = createMap(native, {
        type: BpfMapType.arrayOfMaps,
        valueSize: 4,
        maxEntries: 2,
        innerMapFd: template.fd.value,
      });
      const maps = new MapOfMaps(native, outer);
      assert.equal(maps.innerId(0), undefined);

      // A hash may have another size than the one that the outer map was made with.
      const inner = createMap(native, { maxEntries: 1000 });
      new HashMap(native, inner, u32Codec, u64Codec).set(5, 55n);
      maps.set(0, inner);
      const { id } = inner;
      inner.close();
      assert.equal(maps.innerId(0), id);
      using found = BpfMap.fromId(native, id);
      assert.equal(new HashMap(native, found, u32Codec, u64Codec).get(5), 55n);

      assert.equal(maps.delete(0), true);
      assert.equal(maps.delete(0), false);
      assert.equal(maps.innerId(0), undefined);
    });

    it('refuses a map that is not like the others', () => {
      using template = createMap(native);
      using outer = createMap(native, { type: BpfMapType.arrayOfMaps, valueSize: 4, innerMapFd: template.fd.value });
      using wide = createMap(native, { valueSize: 16, name: 'vnic_wide' });
      const error = thrownBy(() => new MapOfMaps(native, outer).set(0, wide));
      assert.equal(error.code, 'abi_mismatch');
      assert.match(error.message, /vnic_wide \(hash with keys of 4 and values of 16 bytes\)/);
    });
  });

  it('leaves a descriptor number alone that it only borrowed', () => {
    const number = object.mapFd('cells').release();
    BpfMap.fromFd(native, number).close();
    assert.ok(fstatSync(number));
    closeSync(number);
  });
});
