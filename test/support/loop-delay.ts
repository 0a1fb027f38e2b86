// SPDX-License-Identifier: Apache-2.0
/**
 * Loaded into a process before its own code (`NODE_OPTIONS=--import=…`): its worker thread tells how long anything waited
 * for its event loop in the file that VNIC_TEST_LOOP names, its main thread in that of VNIC_TEST_MAIN_LOOP. A line for each
 * interval: `<its end, CLOCK_MONOTONIC in ms> <longest delay in ms>`.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

const INTERVAL_MS = 20;

/** A timer that fires late is how a delay is seen: its own millisecond is in the figure. */
const RESOLUTION_MS = 1;

const variables = { main: 'VNIC_TEST_MAIN_LOOP', worker: 'VNIC_TEST_LOOP' } as const;

/** For the environment of a process of which that thread is to tell. */
export function observingLoop(thread: keyof typeof variables, into: string): Record<string, string> {
  return { [variables[thread]]: into, NODE_OPTIONS: `--import=${import.meta.filename}` };
}

export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Longest delay of the intervals that touch a time, in ms. */
export function longestDelayMs(file: string, fromMs: number, toMs: number): number {
  let longest = Number.NaN;
  let startMs = 0;
  for (const line of readFileSync(file, 'utf8').trimEnd().split('\n')) {
    const [endMs = 0, delayMs = 0] = line.split(' ').map(Number);
    if (endMs >= fromMs && startMs <= toMs) longest = Number.isNaN(longest) ? delayMs : Math.max(longest, delayMs);
    startMs = endMs;
  }
  return longest;
}

function tell(file: string): void {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  setInterval(() => {
    appendFileSync(file, `${monotonicMs()} ${delay.max / 1e6}\n`);
    delay.reset();
  }, INTERVAL_MS).unref();
}

const file = process.env[variables[isMainThread ? 'main' : 'worker']];
if (file !== undefined) tell(file);
