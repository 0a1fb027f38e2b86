// SPDX-License-Identifier: Apache-2.0
/** A service manager's end of sd_notify(3): a bound datagram socket, of libc because Node has none. */
import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { createKoffiAdapter } from '../../src/loader/ffi/koffi-adapter.ts';
import type { SignatureTable } from '../../src/loader/ffi/signatures.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 64;
const MAX_DATAGRAM_BYTES = 4096;

const socketFunctions = {
  socket: ['i32', ['i32', 'i32', 'i32'], 'minus_one'],
  bind: ['i32', ['i32', 'buf', 'u32'], 'minus_one'],
  recv: ['ssize', ['i32', 'buf', 'size', 'i32'], 'minus_one'],
} as const satisfies SignatureTable;

export class NotifyReceiver implements Disposable {
  readonly #libc = createKoffiAdapter().bind('libc.so.6', socketFunctions);
  readonly #fd: number;
  /** All datagrams so far. */
  readonly messages: string[] = [];

  constructor(path: string) {
    this.#fd = this.#libc.socket(AF_UNIX, SOCK_DGRAM, 0);
    const address = Buffer.from(`..${path}`);
    new Uint16Array(address.buffer, address.byteOffset, 1)[0] = AF_UNIX;
    assert.equal(this.#libc.bind(this.#fd, address, address.length), 0, `bind ${path}`);
  }

  /** Takes what has arrived; all messages so far. */
  read(): readonly string[] {
    const bytes = new Uint8Array(MAX_DATAGRAM_BYTES);
    for (;;) {
      const length = this.#libc.recv(this.#fd, bytes, bytes.length, MSG_DONTWAIT);
      if (length < 0) return this.messages;
      this.messages.push(Buffer.from(bytes.subarray(0, length)).toString());
    }
  }

  /** Messages with this first line. */
  count(firstLine: string): number {
    return this.read().filter((message) => message.split('\n')[0] === firstLine).length;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
