// SPDX-License-Identifier: Apache-2.0
/**
 * A process whose main thread and worker thread use native functions at once: `ffi-threads.ts ADAPTER`. Prints one line
 * for each step that held, `ended` as the last, and exits 0 by itself; anything wrong is thrown.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

import { type AdapterName, loadNative, type Native } from '../../src/loader/ffi/index.ts';
import { BpfMapCreateOpts, BpfMapType, Libc, MapFlag } from '../../src/maps/generated/host.ts';

const PAGE_BYTES = 4096;
const CALLS = 500;
/** Counters of the mapped array. */
const MAIN = 0;
const WORKER = 1;

function createMap(native: Native): number {
  const options = BpfMapCreateOpts.encode({ mapFlags: MapFlag.mmapable });
  const fd = native.libbpf.bpf_map_create(BpfMapType.array, 'vnic_threads', 4, 8, 2, options);
  return native.check(fd, 'bpf_map_create');
}

function mapArray(native: Native, mapFd: number): { counters: BigInt64Array; unmap: () => void } {
  const protection = Libc.protRead | Libc.protWrite;
  const address = native.check(native.libc.mmap(0n, PAGE_BYTES, protection, Libc.mapShared, mapFd, 0n), 'mmap');
  return {
    counters: new BigInt64Array(native.memory.view(address, PAGE_BYTES), 0, 2),
    unmap: () => native.check(native.libc.munmap(address, PAGE_BYTES), 'munmap'),
  };
}

/** Succeeding and failing calls, with an errno that the other thread's calls never have. */
function callMuch(native: Native, failing: () => number, errno: string): void {
  const { libc } = native;
  const bytes = native.memory.alloc(64);
  const copy = native.memory.alloc(64);
  for (let call = 0; call < CALLS; call++) {
    assert.equal(libc.getpid(), process.pid);
    bytes.fill(call % 251);
    libc.memmove(copy, bytes, 64);
    assert.deepEqual(copy, bytes);
    const result = failing();
    assert.throws(() => native.check(result, 'close'), {
      details: { errno, errnoNumber: native.errno(), call: 'close' },
    });
  }
}

const failures = {
  main: { call: (native: Native) => native.libc.close(-1), errno: 'EBADF' },
  worker: { call: (native: Native) => native.libc.setns(0, -1), errno: 'EINVAL' },
};

/**
 * koffi's thread is stopped in the middle of its calls. ffi-napi, stopped there, now and then ends the process with an
 * error of its own, so its thread is asked to end; the daemon's engine is always asked.
 */
async function end(worker: Worker, adapter: AdapterName): Promise<void> {
  if (adapter === 'koffi') {
    await worker.terminate();
    return;
  }
  const ended = once(worker, 'exit');
  worker.postMessage('end');
  await ended;
}

async function runMain(adapter: AdapterName): Promise<void> {
  const native = loadNative({ adapter });
  native.setPrint(null);
  const mapFd = createMap(native);
  const { counters, unmap } = mapArray(native, mapFd);
  counters[MAIN] = 41n;

  const worker = new Worker(new URL(import.meta.url), { workerData: { adapter, mapFd } });
  const ended = once(worker, 'exit');
  worker.on('error', (error) => {
    throw error;
  });
  // The worker is on its own thread: this blocks nothing but this one.
  while (counters[WORKER] === 0n) callMuch(native, () => failures.main.call(native), failures.main.errno);
  console.log('both threads call at once');
  const [printed] = (await once(worker, 'message')) as [string];
  assert.match(printed, /^libbpf: elf: failed to open/m);
  console.log('the worker gets the messages of its calls');
  assert.equal(counters[WORKER], 42n);
  counters[MAIN] = 43n;
  const [seen] = (await once(worker, 'message')) as [bigint];
  assert.equal(seen, 43n);
  console.log('both threads see one array');

  // With its print handler set and its memory mapped.
  await end(worker, adapter);
  await ended;
  native.setPrint(null);
  assert.equal(native.libbpf.bpf_object__open_file('/nonexistent.o', null), 0n);
  const texts: string[] = [];
  native.setPrint((_level, text) => texts.push(text));
  native.libbpf.bpf_object__open_file('/nonexistent.o', null);
  assert.match(texts.join(''), /failed to open/);
  callMuch(native, () => failures.main.call(native), failures.main.errno);
  counters[MAIN] = 44n;
  assert.equal(counters[MAIN], 44n);
  console.log('the main thread goes on without the worker');

  const next = new Worker(new URL(import.meta.url), { workerData: { adapter, mapFd } });
  await once(next, 'message');
  await end(next, adapter);
  native.setPrint(null);
  console.log('another worker can follow');
  unmap();
  native.check(native.libc.close(mapFd), 'close');
  console.log('ended');
}

async function runWorker(adapter: AdapterName, mapFd: number): Promise<void> {
  const native = loadNative({ adapter });
  parentPort!.on('message', () => process.exit(0));
  const { counters } = mapArray(native, mapFd);
  const texts: string[] = [];
  native.setPrint((_level, text) => texts.push(text));
  callMuch(native, () => failures.worker.call(native), failures.worker.errno);
  counters[WORKER] = counters[MAIN]! + 1n;
  native.libbpf.bpf_object__open_file('/nonexistent.o', null);
  parentPort!.postMessage(texts.join(''));
  while (counters[MAIN] !== 43n) await new Promise((resolve) => setImmediate(resolve));
  parentPort!.postMessage(counters[MAIN]);
  for (;;) {
    callMuch(native, () => failures.worker.call(native), failures.worker.errno);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

if (isMainThread) await runMain(process.argv[2] as AdapterName);
else await runWorker(workerData.adapter, workerData.mapFd);
