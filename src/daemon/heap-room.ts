// SPDX-License-Identifier: Apache-2.0
/**
 * A daemon lets its heaps grow little (bin/vnicctl). While it works on a large rule set that would have it collect garbage
 * for as long as the work itself takes, so then they may grow, and shrink again with the next collection.
 */
import { setFlagsFromString } from 'node:v8';

/** About 7000 rules. */
const LARGE_BYTES = 1_000_000;
const SAVER = 'memory-saver-mode';
const savesMemory = process.execArgv.includes(`--${SAVER}`);

/** @param bytes of what is worked on */
export async function withRoomFor<T>(bytes: number, work: () => Promise<T>): Promise<T> {
  if (!savesMemory || bytes < LARGE_BYTES) return await work();
  setFlagsFromString(`--no-${SAVER}`);
  try {
    return await work();
  } finally {
    setFlagsFromString(`--${SAVER}`);
  }
}
