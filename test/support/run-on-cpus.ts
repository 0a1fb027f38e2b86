// SPDX-License-Identifier: Apache-2.0
import type { Native } from '../../src/loader/ffi/index.ts';

/** Keeps this process's main thread on these CPUs. */
export function runOnCpus({ native, cpus }: { native: Native; cpus: readonly number[] }): void {
  const mask = new Uint8Array(128);
  for (const cpu of cpus) mask[cpu >> 3]! |= 1 << (cpu & 7);
  native.check(native.libc.sched_setaffinity(0, mask.length, mask), 'sched_setaffinity', `CPUs ${cpus.join()}`);
}
