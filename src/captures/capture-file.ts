// SPDX-License-Identifier: Apache-2.0
/** A pcapng file that is being written: whole blocks only, so that it can be read whenever the writing ends. */
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { VnicError } from '../errors.ts';
import {
  encodeInterface,
  encodeInterfaceStatistics,
  encodePacket,
  encodeSectionHeader,
  type FrameToWrite,
} from './write.ts';

const STDOUT = 1;

export class CaptureFile implements Disposable {
  readonly #path: string;
  readonly #fd: number;
  readonly #isStdout: boolean;
  /** Of whole blocks. */
  #bytes = 0;

  /**
   * @param path `-`: stdout
   * Throws `conflict` (the file is there), `not_permitted`, `failed`.
   */
  constructor(path: string, { force }: { force: boolean }) {
    this.#path = path;
    this.#isStdout = path === '-';
    try {
      this.#fd = this.#isStdout ? STDOUT : openSync(path, force ? 'w' : 'wx', 0o600);
    } catch (error) {
      throw openError(path, error as NodeJS.ErrnoException);
    }
  }

  begin(interfaceName: string, snaplenBytes: number): void {
    this.#write([encodeSectionHeader(), encodeInterface({ name: interfaceName, snaplenBytes })]);
  }

  /** Throws `failed` where the disk is full; what was written before stays readable. */
  add(frames: readonly FrameToWrite[]): void {
    if (frames.length > 0) this.#write(frames.map(encodePacket));
  }

  end(timeNs: bigint, received: bigint, dropped: bigint): void {
    this.#write([encodeInterfaceStatistics(timeNs, received, dropped)]);
  }

  close(): void {
    if (!this.#isStdout) closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #write(blocks: readonly Uint8Array[]): void {
    const bytes = Buffer.concat(blocks);
    let at = 0;
    try {
      while (at < bytes.length) at += writeSync(this.#fd, bytes, at);
    } catch (cause) {
      const written = this.#cutAtBlock(blocks, at);
      const message = `${this.#path}: cannot be written: ${(cause as Error).message}`;
      const remedy = `Make room. What was captured before is in the file: ${written} bytes.`;
      throw new VnicError('failed', message, { remedy, cause });
    }
    this.#bytes += bytes.length;
  }

  /** Takes away what was written of a block; gives the length of the file. */
  #cutAtBlock(blocks: readonly Uint8Array[], written: number): number {
    let whole = 0;
    for (const { length } of blocks) {
      if (whole + length > written) break;
      whole += length;
    }
    this.#bytes += whole;
    if (!this.#isStdout) ftruncateSync(this.#fd, this.#bytes);
    return this.#bytes;
  }
}

function openError(path: string, cause: NodeJS.ErrnoException): VnicError {
  switch (cause.code) {
    case 'EEXIST':
      return new VnicError('conflict', `${path} exists already.`, {
        remedy: 'Give another name with -w, or --force to replace it.',
        cause,
      });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new VnicError('not_permitted', `${path} may not be written: ${cause.message}.`, {
        remedy: 'Give a file in a folder that you may write to.',
        cause,
      });
    default:
      return new VnicError('failed', `${path} cannot be made: ${cause.message}.`, {
        remedy: 'Look at the folder and the free space.',
        cause,
      });
  }
}
