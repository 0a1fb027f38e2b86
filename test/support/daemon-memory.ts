// SPDX-License-Identifier: Apache-2.0
/** What a test's daemon keeps in memory: memory-probe.ts in its threads tells, after they collected their garbage. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestDaemon } from './daemon.ts';
import type { MemoryReport } from './memory-probe.ts';

const probe = path.join(import.meta.dirname, 'memory-probe.ts');

/** For the environment of a daemon that is to tell of its memory in the file. */
export function memoryEnvironment(file: string): Record<string, string> {
  return { NODE_OPTIONS: `--import=${probe}`, MEMORY_REPORT: file };
}

/** After a moment of quiet and a collection of garbage in all of the daemon's threads. */
export async function settledMemory(daemon: TestDaemon, file: string, quietMs = 3000): Promise<MemoryReport> {
  await sleep(quietMs);
  rmSync(file, { force: true });
  daemon.signal('SIGUSR2');
  for (let tries = 0; tries < 200 && !existsSync(file); tries++) await sleep(100);
  return JSON.parse(readFileSync(file, 'utf8')) as MemoryReport;
}

/** Of all threads. */
export const total = (bytes: Record<number, number>): number => Object.values(bytes).reduce((sum, one) => sum + one, 0);
export const inMiB = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export function memoryText({ rssBytes, rssUncollectedBytes, heapBytes, externalBytes }: MemoryReport): string {
  const heap = Object.values(heapBytes).map(inMiB).join(' + ');
  return `RSS ${inMiB(rssBytes)} (before collecting ${inMiB(rssUncollectedBytes)}), heap ${heap}, external ${inMiB(total(externalBytes))}`;
}
