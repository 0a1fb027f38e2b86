// SPDX-License-Identifier: Apache-2.0
/**
 * Loaded into a process before its own code (`NODE_OPTIONS=--import=…`): all its threads stand still for some time, and
 * the first keeps a CPU busy meanwhile, as in a collection of garbage, whenever the file that VNIC_TEST_BLOCK names gets a
 * new value: `<number> <milliseconds>`.
 */
import { readFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const file = process.env['VNIC_TEST_BLOCK'];

function read(): string {
  try {
    return readFileSync(file ?? '', 'utf8');
  } catch {
    return '';
  }
}

let before = read();

function look(): void {
  const now = read();
  if (now === before) return;
  before = now;
  const durationMs = Number(now.split(' ')[1] ?? 0);
  if (!isMainThread) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, durationMs);
    return;
  }
  const end = performance.now() + durationMs;
  while (performance.now() < end);
}

if (file !== undefined) setInterval(look, 10).unref();
