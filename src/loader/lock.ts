// SPDX-License-Identifier: Apache-2.0
/** One writer at a time. flock(2): the kernel lets go of it when its holder dies, however it dies. */
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { VnicError } from '../errors.ts';
import { Libc } from '../maps/generated/host.ts';
import { Fd } from './fd.ts';
import { errnoName, type Native } from './ffi/index.ts';

const POLL_MS = 20;

/** Who has the lock: its process id, or `unknown` in the moment before it has written that down. */
export interface LockHolder {
  readonly holder: string;
}

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
    const fd = openLockFile(native, file);
    const deadline = performance.now() + timeoutMs;
    const sleeper = new Int32Array(new SharedArrayBuffer(4));
    while (!lockNow(native, fd, file)) {
      if (performance.now() >= deadline) {
        fd.close();
        throw new VnicError('conflict', `Another vnicctl is at work (process ${readHolder(file)}).`, {
          remedy: 'Wait for it to end, or stop it.',
        });
      }
      Atomics.wait(sleeper, 0, 0, POLL_MS);
    }
    return FileLock.#held(fd, file);
  }

  /**
   * Takes the lock if it is free, without waiting, to hold it for the life of the process; otherwise says who has it.
   * The file is made if it is not there and stays.
   */
  static tryAcquire(native: Native, file: string): FileLock | LockHolder {
    const fd = openLockFile(native, file);
    if (lockNow(native, fd, file)) return FileLock.#held(fd, file);
    fd.close();
    return { holder: readHolder(file) };
  }

  static #held(fd: Fd, file: string): FileLock {
    // A daemon takes it again and again, and need not write to a disk for that.
    if (readFileSync(file, 'utf8') !== `${process.pid}\n`) {
      truncateSync(file);
      writeFileSync(file, `${process.pid}\n`);
    }
    return new FileLock(fd, file);
  }

  release(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

function openLockFile(native: Native, file: string): Fd {
  mkdirSync(path.dirname(file), { recursive: true });
  const flags = Libc.oRdwr | Libc.oCloexec | Libc.oCreat;
  return new Fd(native, native.check(native.libc.open(file, flags, 0o600), 'open', file));
}

/** False when somebody else has the lock; a file system without locks is an error, not a holder. */
function lockNow(native: Native, fd: Fd, file: string): boolean {
  const result = native.libc.flock(fd.value, Libc.lockEx | Libc.lockNb);
  if (result === 0) return true;
  const errno = errnoName(native.errno());
  if (errno === 'EAGAIN' || errno === 'EINTR') return false;
  fd.close();
  native.check(result, 'flock', file);
  return false;
}

function readHolder(file: string): string {
  return readFileSync(file, 'utf8').trim() || 'unknown';
}
