// SPDX-License-Identifier: Apache-2.0
/** One contract for every FFI adapter, run against the real libbpf, libc and kernel. */
import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { VnicError } from '../../src/errors.ts';
import { loadNative, type Native } from '../../src/loader/ffi/index.ts';
import {
  describeEachAdapter,
  exposeGarbageCollector,
  readU64,
  requireRoot,
  u32Bytes,
  u64Bytes,
} from '../support/ffi.ts';

const protRead = 1;
const protWrite = 2;
const mapShared = 1;
const mapPrivateAnonymous = 0x22;
const lockExclusiveNonBlocking = 2 | 4;
const clockMonotonic = 1;
const bpfMapTypeHash = 1;
const bpfMapTypeArray = 2;
const bpfNoExist = 1n;
const noSuchId = 0xffff_fffe;

function expectError(action: () => unknown, code: string): VnicError {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof VnicError, `not a VnicError: ${String(error)}`);
    assert.equal(error.code, code);
    return error;
  }
  assert.fail('no error was thrown');
}

describeEachAdapter('native functions', (fixture) => {
  const { adapter } = fixture;
  let native: Native;
  let folder: string;
  const openFds: number[] = [];

  function ownFd(fd: number): number {
    openFds.push(fd);
    return fd;
  }

  function createMap(type: number, keyBytes: number, valueBytes: number, entries: number): number {
    const fd = native.libbpf.bpf_map_create(type, 'vnic_test', keyBytes, valueBytes, entries, null);
    return ownFd(native.check(fd, 'bpf_map_create'));
  }

  before(() => {
    ({ native, folder } = fixture);
  });

  afterEach(() => {
    for (const fd of openFds.splice(0)) closeSync(fd);
  });

  it('names itself and is loaded once', () => {
    assert.equal(native.adapter, adapter);
    assert.equal(loadNative({ adapter }), native);
  });

  it('calls functions without parameters', () => {
    assert.equal(native.libc.getpid(), process.pid);
    assert.match(native.libbpf.libbpf_version_string() ?? '', /^v1\.\d+$/);
    assert.ok(native.libbpf.libbpf_num_possible_cpus() >= 1);
    assert.ok(native.libc.sched_getcpu() >= 0);
  });

  it('passes strings as UTF-8 and returns them', () => {
    const path = join(folder, 'zoë-網路');
    writeFileSync(path, 'x');
    const fd = ownFd(native.check(native.libc.open(path, 0, 0), 'open', path));
    assert.equal(fstatSync(fd).ino, statSync(path).ino);

    const index = native.check(native.libc.if_nametoindex('lo'), 'if_nametoindex');
    const name = native.memory.alloc(16);
    assert.equal(native.libc.if_indextoname(index, name), 'lo');
    assert.deepEqual([...name.subarray(0, 3)], [0x6c, 0x6f, 0]);
  });

  it('passes u64 above 2^53 unchanged', function () {
    requireRoot(this);
    const fd = createMap(bpfMapTypeArray, 4, 8, 1);
    // Cut to 32 bits or rounded away, these flags would be 0, which the kernel accepts.
    assert.equal(native.libbpf.bpf_map_update_elem(fd, u32Bytes(0), u64Bytes(1n), 1n << 63n), -22);
    assert.equal(native.libbpf.bpf_map_update_elem(fd, u32Bytes(0), u64Bytes(1n), (1n << 53n) + (1n << 32n)), -22);
    assert.equal(native.libbpf.bpf_map_update_elem(fd, u32Bytes(0), u64Bytes(1n), 0n), 0);
  });

  it('passes i64 above 2^53 unchanged', () => {
    const path = join('/dev/shm', `vnic-ffi-${process.pid}`);
    const fd = ownFd(openSync(path, 'w+'));
    try {
      const offset = (1n << 55n) + 4096n;
      const address = native.check(native.libc.mmap(0n, 4096, protRead, mapShared, fd, offset), 'mmap');
      const line = readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .find((text) => text.startsWith(`${address.toString(16)}-`));
      assert.equal(line?.split(' ')[2], offset.toString(16));
      assert.equal(native.libc.munmap(address, 4096), 0);
      // A negative offset is no offset.
      assert.equal(native.libc.mmap(0n, 4096, protRead, mapShared, fd, -1n), 0xffff_ffff_ffff_ffffn);
    } finally {
      rmSync(path);
    }
  });

  it('moves small and large buffers in and out, also parts of one', () => {
    for (const lengthBytes of [1, 8, 64, 16 * 1024 * 1024]) {
      const source = new Uint8Array(lengthBytes).fill(0xa5);
      const target = new Uint8Array(lengthBytes);
      native.libc.memmove(target, source, lengthBytes);
      assert.ok(Buffer.from(source).equals(target), `${lengthBytes} bytes`);
    }
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    native.libc.memmove(bytes.subarray(0), bytes.subarray(4), 4);
    assert.deepEqual([...bytes], [5, 6, 7, 8, 5, 6, 7, 8]);
    const pooled = Buffer.from('pooled');
    const copy = Buffer.from('......');
    native.libc.memmove(copy, pooled, 6);
    assert.equal(copy.toString(), 'pooled');
  });

  it('writes through variadic functions and fills structures', () => {
    const path = join(folder, 'variadic');
    writeFileSync(path, '12345');
    const fd = ownFd(native.check(native.libc.open(path, 0o102, 0o600), 'open', path));
    const available = native.memory.alloc(4);
    native.check(native.libc.ioctl(fd, 0x541bn, available), 'ioctl');
    assert.deepEqual([...available], [5, 0, 0, 0]);
    const duplicateAtLeast = 1030;
    const duplicate = ownFd(native.check(native.libc.fcntl(fd, duplicateAtLeast, 77), 'fcntl'));
    assert.ok(duplicate >= 77);

    const time = native.memory.alloc(16);
    const earliest = process.hrtime.bigint();
    native.check(native.libc.clock_gettime(clockMonotonic, time), 'clock_gettime');
    const latest = process.hrtime.bigint();
    const nanoseconds = readU64(time) * 1_000_000_000n + readU64(time.subarray(8));
    assert.ok(earliest <= nanoseconds && nanoseconds <= latest);
  });

  it('gives memory an address that stays the same', () => {
    const collectGarbage = exposeGarbageCollector();
    for (const lengthBytes of [1, 8, 4096]) {
      const bytes = native.memory.alloc(lengthBytes);
      assert.deepEqual(bytes, new Uint8Array(lengthBytes));
      assert.equal(bytes.buffer.byteLength, lengthBytes);
      const address = native.memory.addressOf(bytes);
      collectGarbage();
      assert.equal(native.memory.addressOf(bytes), address);
      assert.equal(native.memory.addressOf(bytes.subarray(lengthBytes - 1)), address + BigInt(lengthBytes - 1));
      bytes[lengthBytes - 1] = 0x5a;
      const seen = native.memory.alloc(1);
      native.libc.memmove(seen, bytes.subarray(lengthBytes - 1), 1);
      assert.equal(seen[0], 0x5a);
    }
  });

  it('reads a string at an address', () => {
    const bytes = native.memory.alloc(16);
    bytes.set(Buffer.from('..zoë\0rest'));
    assert.equal(native.memory.readCString(native.memory.addressOf(bytes) + 2n), 'zoë');
    assert.equal(native.memory.readCString(0n), null);
  });

  it('shows mapped memory without a copy, until it is unmapped', () => {
    const path = join('/dev/shm', `vnic-ffi-view-${process.pid}`);
    writeFileSync(path, Buffer.alloc(8192));
    const fd = ownFd(openSync(path, 'r+'));
    try {
      const address = native.check(native.libc.mmap(0n, 8192, protRead | protWrite, mapShared, fd, 0n), 'mmap');
      const view = native.memory.view(address, 8192);
      assert.equal(view.byteLength, 8192);
      const words = new BigUint64Array(view);
      words[1023] = 0x1122_3344_5566_7788n;
      assert.equal(readFileSync(path).readBigUInt64LE(8184), 0x1122_3344_5566_7788n);
      writeFileSync(path, u64Bytes(99n), { flag: 'r+' });
      assert.equal(words[0], 99n);
      assert.equal(native.memory.view(address, 8192), view);

      native.check(native.libc.munmap(address, 8192), 'munmap');
      assert.equal(view.byteLength, 0);
      assert.equal(words[0], undefined);
      assert.throws(() => new BigUint64Array(view), TypeError);
    } finally {
      rmSync(path);
    }
  });

  it('views the right length when an address is mapped again', () => {
    const protection = protRead | protWrite;
    const first = native.check(native.libc.mmap(0n, 65536, protection, mapPrivateAnonymous, -1, 0n), 'mmap');
    native.memory.view(first, 65536);
    native.check(native.libc.munmap(first, 65536), 'munmap');
    const again = native.check(native.libc.mmap(first, 4096, protection, mapPrivateAnonymous, -1, 0n), 'mmap');
    assert.equal(again, first);
    const view = native.memory.view(again, 4096);
    assert.equal(view.byteLength, 4096);
    new Uint8Array(view).fill(1);
    native.check(native.libc.munmap(again, 4096), 'munmap');
  });

  it('refuses a view of NULL or of nothing', () => {
    assert.throws(() => native.memory.view(0n, 8), RangeError);
    assert.throws(() => native.memory.view(4096n, 0), RangeError);
    assert.throws(() => native.memory.view(4096n, Number.NaN), RangeError);
  });

  it('says which call failed, with errno by name and number', () => {
    const error = expectError(() => native.check(native.libc.close(-1), 'close'), 'kernel_refused');
    assert.match(error.message, /^close failed: EBADF \(bad file descriptor\)/);
    assert.deepEqual(error.details, { errno: 'EBADF', errnoNumber: 9, call: 'close' });

    const missing = expectError(
      () => native.check(native.libbpf.bpf_obj_get('/nonexistent/pin'), 'bpf_obj_get', '/nonexistent/pin'),
      'kernel_refused',
    );
    assert.match(missing.message, /^bpf_obj_get \/nonexistent\/pin failed: ENOENT/);
  });

  it('keeps errno of a failed call although others succeed after it', () => {
    const collectGarbage = exposeGarbageCollector();
    const mapped = native.libc.mmap(0n, 0, protRead, mapPrivateAnonymous, -1, 0n);
    collectGarbage();
    native.libc.getpid();
    const error = expectError(() => native.check(mapped, 'mmap'), 'kernel_refused');
    assert.equal(error.details['errno'], 'EINVAL');

    const path = join(folder, 'lock');
    writeFileSync(path, '');
    const [holder, other] = [ownFd(openSync(path, 'r')), ownFd(openSync(path, 'r'))];
    native.check(native.libc.flock(holder, lockExclusiveNonBlocking), 'flock');
    const refused = native.libc.flock(other, lockExclusiveNonBlocking);
    assert.equal(native.libc.getpid(), process.pid);
    assert.equal(native.errno(), 11);
    assert.equal(expectError(() => native.check(refused, 'flock'), 'kernel_refused').details['errno'], 'EAGAIN');
  });

  it('recognizes failure by NULL and by 0', () => {
    const object = native.libbpf.bpf_object__open_file('/nonexistent.o', null);
    assert.equal(object, 0n);
    const error = expectError(() => native.check(object, 'bpf_object__open_file'), 'kernel_refused');
    assert.equal(error.details['errno'], 'ENOENT');

    const noName = native.libc.if_indextoname(0x7fff_fffe, native.memory.alloc(16));
    assert.equal(noName, null);
    const nameError = expectError(() => native.check(noName, 'if_indextoname'), 'kernel_refused');
    assert.equal(nameError.details['errno'], 'ENXIO');

    const noIndex = native.libc.if_nametoindex('no-such-device');
    const indexError = expectError(() => native.check(noIndex, 'if_nametoindex'), 'kernel_refused');
    assert.equal(indexError.details['errno'], 'ENODEV');
  });

  it('names the missing capability when the kernel does not permit', () => {
    const error = expectError(() => native.check(-1, 'bpf_map_create'), 'not_permitted');
    assert.match(error.remedy ?? '', /CAP_BPF/);
    assert.equal(error.details['errno'], 'EPERM');
    assert.match(expectError(() => native.check(-13, 'bpf_xdp_attach'), 'not_permitted').remedy ?? '', /CAP_NET_ADMIN/);
  });

  it('returns the result of a call that succeeded', () => {
    assert.equal(native.check(0, 'bpf_map_create'), 0);
    assert.equal(native.check(7n, 'bpf_object__open_file'), 7n);
    // The end of an iteration is not a failure.
    assert.equal(native.check(0n, 'bpf_object__next_map'), 0n);
  });

  it('creates, updates and reads an array map, one by one and in batches', function () {
    requireRoot(this);
    const fd = createMap(bpfMapTypeArray, 4, 8, 4);
    native.check(
      native.libbpf.bpf_map_update_elem(fd, u32Bytes(2), u64Bytes((1n << 60n) + 1n), 0n),
      'bpf_map_update_elem',
    );
    const value = new Uint8Array(8);
    native.check(native.libbpf.bpf_map_lookup_elem(fd, u32Bytes(2), value), 'bpf_map_lookup_elem');
    assert.equal(readU64(value), (1n << 60n) + 1n);
    assert.equal(native.libbpf.bpf_map_lookup_elem(fd, u32Bytes(4), value), -2);

    const keys = new Uint8Array(Uint32Array.of(0, 1, 2, 3).buffer);
    const values = new Uint8Array(BigUint64Array.of(10n, 11n, 12n, 13n).buffer);
    const count = u32Bytes(4);
    native.check(native.libbpf.bpf_map_update_batch(fd, keys, values, count, null), 'bpf_map_update_batch');
    const readKeys = native.memory.alloc(16);
    const readValues = native.memory.alloc(32);
    const result = native.libbpf.bpf_map_lookup_batch(
      fd,
      null,
      native.memory.alloc(4),
      readKeys,
      readValues,
      count,
      null,
    );
    native.check(result, 'bpf_map_lookup_batch');
    assert.deepEqual([readKeys, readValues], [keys, values]);
    assert.deepEqual(count, u32Bytes(4));
  });

  it('creates, updates, walks and empties a hash map', function () {
    requireRoot(this);
    const fd = createMap(bpfMapTypeHash, 8, 8, 16);
    const { libbpf } = native;
    for (const key of [1n, 1n << 63n]) {
      native.check(
        libbpf.bpf_map_update_elem(fd, u64Bytes(key), u64Bytes(key + 1n), bpfNoExist),
        'bpf_map_update_elem',
      );
    }
    const twice = libbpf.bpf_map_update_elem(fd, u64Bytes(1n), u64Bytes(0n), bpfNoExist);
    assert.equal(
      expectError(() => native.check(twice, 'bpf_map_update_elem'), 'kernel_refused').details['errno'],
      'EEXIST',
    );

    const found = new Set<bigint>();
    const next = native.memory.alloc(8);
    for (let key: Uint8Array | null = null; libbpf.bpf_map_get_next_key(fd, key, next) === 0; key = next.slice()) {
      found.add(readU64(next));
    }
    assert.deepEqual(found, new Set([1n, 1n << 63n]));
    assert.equal(libbpf.bpf_map_delete_elem(fd, u64Bytes(1n << 63n)), 0);
    assert.equal(libbpf.bpf_map_lookup_elem(fd, u64Bytes(1n << 63n), next), -2);
  });

  it('survives garbage collection between and during calls', function () {
    requireRoot(this);
    this.timeout(60_000);
    const collectGarbage = exposeGarbageCollector();
    const fd = createMap(bpfMapTypeHash, 8, 1024, 512);
    for (let index = 0; index < 4000; index++) {
      const key = BigInt(index % 512);
      const filled = new Uint8Array(1024).fill(index % 251);
      native.check(native.libbpf.bpf_map_update_elem(fd, u64Bytes(key), filled, 0n), 'bpf_map_update_elem');
      if (index % 400 === 0) collectGarbage();
      const read = new Uint8Array(1024);
      native.check(native.libbpf.bpf_map_lookup_elem(fd, u64Bytes(key), read), 'bpf_map_lookup_elem');
      assert.ok(Buffer.from(filled).equals(read), `value ${index}`);
    }
  });

  it('finds no program, map, link or BTF under an id that does not exist', function () {
    requireRoot(this);
    const { libbpf } = native;
    assert.equal(libbpf.bpf_prog_get_fd_by_id(noSuchId), -2);
    assert.equal(libbpf.bpf_map_get_fd_by_id(noSuchId), -2);
    assert.equal(libbpf.bpf_link_get_fd_by_id(noSuchId), -2);
    assert.equal(libbpf.bpf_btf_get_fd_by_id(noSuchId), -2);
  });
});
