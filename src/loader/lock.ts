// SPDX-License-Identifier: Apache-2.0
/** One writer at a time. flock(2): the kernel lets go of it when its holder dies, however it dies. */
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { VnicError } from '../errors.ts';
import { Libc } from '../maps/generated/host.ts';
import { Fd } from './fd.ts';
import type { Native } from './ffi/index.ts';

const O_CREAT = 0o100;
const POLL_MS = 20;

export class FileLock implements Disposable {
  readonly #fd: Fd;
  readonly path: string;

  private constructor(fd: Fd, file: string) {
    this.#fd = fd;
    this.path = file;
  }

  /**
   * Waits for the lock, blocking the thread. Throws `conflict` naming the holder after `timeoutMs`.
   * The file is made if it is not there and stays: removing it would let two holders in.
   */
  static acquire(native: Native, file: string, timeoutMs: number): FileLock {
    mkdirSync(path.dirname(file), { recursive: true });
    const flags = Libc.oRdwr | Libc.oCloexec | O_CREAT;
    const fd = new Fd(native, native.check(native.libc.open(file, flags, 0o600), 'open', file));
    const deadline = performance.now() + timeoutMs;
    const sleeper = new Int32Array(new SharedArrayBuffer(4));
    while (native.libc.flock(fd.value, Libc.lockEx | Libc.lockNb) !== 0) {
      if (performance.now() >= deadline) {
        fd.close();
        throw new VnicError('conflict', `Another vnicctl is at work (process ${readHolder(file)}).`, {
          remedy: 'Wait for it to end, or stop it.',
        });
      }
      Atomics.wait(sleeper, 0, 0, POLL_MS);
    }
    truncateSync(file);
    writeFileSync(file, `${process.pid}\n`);
    return new FileLock(fd, file);
  }

  release(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

function readHolder(file: string): string {
  return readFileSync(file, 'utf8').trim() || 'unknown';
}
