// SPDX-License-Identifier: Apache-2.0
/** One daemon for each state folder; while it runs, nobody else changes what it keeps in memory. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { VnicError } from '../errors.ts';
import type { Native } from '../loader/ffi/index.ts';
import { FileLock } from '../loader/lock.ts';

const NAME = 'vnicd.lock';
/** A command looks for a moment only. */
const ATTEMPTS = 25;
const PAUSE_MS = 20;

function take(native: Native, stateFolder: string): FileLock | { holder: string } {
  const file = path.join(stateFolder, NAME);
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  for (let attempt = 1; ; attempt++) {
    const result = FileLock.tryAcquire(native, file);
    if (result instanceof FileLock || attempt === ATTEMPTS) return result;
    Atomics.wait(sleeper, 0, 0, PAUSE_MS);
  }
}

/** Takes the state for the life of a daemon. Throws `conflict`. */
export function takeState(native: Native, stateFolder: string): FileLock {
  const result = take(native, stateFolder);
  if (result instanceof FileLock) return result;
  throw new VnicError('conflict', `A daemon (process ${result.holder}) has the state in ${stateFolder} already.`, {
    remedy: 'Stop it, or give this one another folder by VNIC_STATE_DIR.',
  });
}

/** Throws `conflict` while a daemon has the state. @param socket where it was looked for */
export function requireFreeState(native: Native, stateFolder: string, socket: string): void {
  // Where no daemon ever was, nothing is made for it.
  if (!existsSync(path.join(stateFolder, NAME))) return;
  const result = take(native, stateFolder);
  if (result instanceof FileLock) {
    result.release();
    return;
  }
  throw new VnicError('conflict', `A daemon (process ${result.holder}) has the state in ${stateFolder}.`, {
    remedy: `It does not answer at ${socket}: name its socket with --socket PATH.`,
  });
}
