// SPDX-License-Identifier: Apache-2.0
/** The perf events of this machine's kernel. */
import { readFileSync } from 'node:fs';
import { VnicError } from '../../errors.ts';
import { openPerfEvent, readPerfEvent } from '../../loader/perf-event.ts';
import type { PerfPort } from './counters.ts';

type Native = Parameters<typeof openPerfEvent>[0];

const PARANOID = '/proc/sys/kernel/perf_event_paranoid';

function readParanoid(): number | null {
  try {
    return Number(readFileSync(PARANOID, 'utf8'));
  } catch {
    return null;
  }
}

export function kernelPerf(native: Native, onlineCpus: () => number[]): PerfPort {
  return {
    onlineCpus,
    paranoid: readParanoid,
    nowMs: () => performance.now(),
    open: (event, cpu) => {
      try {
        const fd = openPerfEvent(native, event, cpu);
        return { read: () => readPerfEvent(fd), close: () => fd.close() };
      } catch (error) {
        if (error instanceof VnicError && typeof error.details?.['errno'] === 'string') return error.details['errno'];
        throw error;
      }
    },
  };
}
