// SPDX-License-Identifier: Apache-2.0
/** File descriptors with one owner each. */
import { VnicError } from '../errors.ts';
import type { Native } from './ffi/types.ts';

/** What `Fd` needs from the native port. */
export type FdCloser = Pick<Native, 'libc' | 'check'>;

/**
 * Owns a file descriptor. Use after `close()` throws, so that a descriptor number that the kernel has handed out again
 * is never touched by mistake.
 */
export class Fd implements Disposable {
  readonly #native: FdCloser;
  #value: number | null;

  /** Takes ownership of `value`, a valid descriptor (0 is one). Throws VnicError `failed` for a negative number. */
  constructor(native: FdCloser, value: number) {
    if (!Number.isInteger(value) || value < 0) {
      throw new VnicError('failed', `${value} is no file descriptor.`);
    }
    this.#native = native;
    this.#value = value;
  }

  /** The number, to pass on while this object stays its owner. Throws VnicError `failed` after `close()`. */
  get value(): number {
    if (this.#value === null) throw new VnicError('failed', 'A file descriptor was used after it was closed.');
    return this.#value;
  }

  get closed(): boolean {
    return this.#value === null;
  }

  /** Closes the descriptor; does nothing when it is closed already. */
  close(): void {
    if (this.#value === null) return;
    const value = this.#value;
    // Linux releases the number even when close() fails, so it is given up first and never closed twice (close(2)).
    this.#value = null;
    this.#native.check(this.#native.libc.close(value), 'close');
  }

  /** Gives up ownership: the caller closes the returned number. */
  release(): number {
    const value = this.value;
    this.#value = null;
    return value;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
