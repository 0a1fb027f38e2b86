// SPDX-License-Identifier: Apache-2.0
/**
 * What the machine asks for things that every program does: between machines they differ by a hundred times, most of all
 * where page tables are the hypervisor's, and figures in ms follow them.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { quantile } from './measure.ts';

const ROUNDS = 5;
const PAGE_BYTES = 4096;
const PAGES = 1024;
const HANDOVERS = 500;

function median(measureOnce: () => number): number {
  return quantile(
    Array.from({ length: ROUNDS }, () => measureOnce()),
    0.5,
  );
}

/** Time to touch a page of new memory for the first time, ns. */
function pageFaultNs(): number {
  return median(() => {
    // Of this size the allocator asks the kernel for it.
    const bytes = new Uint8Array(PAGES * PAGE_BYTES);
    const begin = performance.now();
    for (let page = 0; page < PAGES; page++) bytes[page * PAGE_BYTES] = 1;
    return ((performance.now() - begin) * 1e6) / PAGES;
  });
}

/** From waking a thread that sleeps to its own answer, half of there and back, us. */
async function handoverUs(): Promise<number> {
  const turns = new Int32Array(new SharedArrayBuffer(8));
  const answers = `
    const { workerData: turns } = require('node:worker_threads');
    for (let turn = 1; ; turn++) {
      Atomics.wait(turns, 0, turn - 1);
      if (turns[0] < 0) break;
      Atomics.store(turns, 1, turn);
      Atomics.notify(turns, 1);
    }`;
  const worker = new Worker(answers, { eval: true, workerData: turns });
  await once(worker, 'online');
  let turn = 0;
  const us = median(() => {
    const begin = performance.now();
    for (let count = 0; count < HANDOVERS; count++) {
      turn++;
      Atomics.store(turns, 0, turn);
      Atomics.notify(turns, 0);
      Atomics.wait(turns, 1, turn - 1);
    }
    return ((performance.now() - begin) * 1000) / HANDOVERS / 2;
  });
  Atomics.store(turns, 0, -1);
  Atomics.notify(turns, 0);
  await once(worker, 'exit');
  return us;
}

export async function measureMachineCosts(): Promise<Record<'page_fault_ns' | 'thread_handover_us', number>> {
  return { page_fault_ns: Math.round(pageFaultNs()), thread_handover_us: Number((await handoverUs()).toFixed(1)) };
}
