// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { chmodSync, closeSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import type { VnicError } from '../../src/errors.ts';
import { createKoffiAdapter } from '../../src/loader/ffi/koffi-adapter.ts';
import type { SignatureTable } from '../../src/loader/ffi/signatures.ts';
import { ServiceManager } from '../../src/loader/service-manager.ts';
import { describeEachAdapter } from '../support/ffi.ts';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 64;

const receiverFunctions = {
  socket: ['i32', ['i32', 'i32', 'i32'], 'minus_one'],
  bind: ['i32', ['i32', 'buf', 'u32'], 'minus_one'],
  recv: ['ssize', ['i32', 'buf', 'size', 'i32'], 'minus_one'],
} as const satisfies SignatureTable;

/** A service manager's end: a bound datagram socket, of libc because Node has none. */
class Receiver implements Disposable {
  readonly #libc = createKoffiAdapter().bind('libc.so.6', receiverFunctions);
  readonly #fd: number;

  /** @param name a path, or an abstract name that begins with NUL */
  constructor(name: string) {
    this.#fd = this.#libc.socket(AF_UNIX, SOCK_DGRAM, 0);
    const bytes = Buffer.from(`..${name}`);
    new Uint16Array(bytes.buffer, bytes.byteOffset, 1)[0] = AF_UNIX;
    assert.equal(this.#libc.bind(this.#fd, bytes, bytes.length), 0);
  }

  /** The next datagram, or null when none is there. */
  next(): string | null {
    const bytes = new Uint8Array(4096);
    const length = this.#libc.recv(this.#fd, bytes, bytes.length, MSG_DONTWAIT);
    return length < 0 ? null : Buffer.from(bytes.subarray(0, length)).toString();
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

describeEachAdapter('the service manager', (fixture) => {
  let sequence = 0;
  let path: string;
  let failures: VnicError[];

  beforeEach(() => {
    sequence += 1;
    path = join(fixture.folder, `notify-${sequence}`);
    failures = [];
  });

  function managerOf(environment: NodeJS.ProcessEnv): ServiceManager {
    return new ServiceManager(fixture.native, environment, { onFailure: (error) => failures.push(error) });
  }

  it('is told each state in one datagram', () => {
    using receiver = new Receiver(path);
    const manager = managerOf({ NOTIFY_SOCKET: path });
    assert.equal(manager.present, true);
    assert.equal(manager.ready('2 devices, 100 rules'), true);
    assert.equal(receiver.next(), 'READY=1\nSTATUS=2 devices, 100 rules');
    assert.equal(manager.status('failing over az-a – größer'), true);
    assert.equal(receiver.next(), 'STATUS=failing over az-a – größer');
    assert.equal(manager.watchdog(), true);
    assert.equal(receiver.next(), 'WATCHDOG=1');
    assert.equal(manager.stopping(), true);
    assert.equal(receiver.next(), 'STOPPING=1');
    assert.equal(receiver.next(), null);
    assert.deepEqual(failures, []);
  });

  it('is told of a reload with the time of the monotonic clock in microseconds', () => {
    using receiver = new Receiver(path);
    const earliest = process.hrtime.bigint() / 1000n;
    managerOf({ NOTIFY_SOCKET: path }).reloading();
    const latest = process.hrtime.bigint() / 1000n;
    const microseconds = /^RELOADING=1\nMONOTONIC_USEC=(\d+)$/.exec(receiver.next() ?? '')?.[1];
    assert.ok(microseconds !== undefined);
    assert.ok(earliest <= BigInt(microseconds) && BigInt(microseconds) <= latest);
  });

  it('gets a status of several lines as one, because a line is an assignment of its own', () => {
    using receiver = new Receiver(path);
    managerOf({ NOTIFY_SOCKET: path }).status('first\nSTOPPING=1\r\nlast');
    assert.equal(receiver.next(), 'STATUS=first STOPPING=1 last');
  });

  it('is reached on an abstract socket', () => {
    const name = `vnic-test/${process.pid}/${fixture.adapter}`;
    using receiver = new Receiver(`\0${name}`);
    assert.equal(managerOf({ NOTIFY_SOCKET: `@${name}` }).ready('ok'), true);
    assert.equal(receiver.next(), 'READY=1\nSTATUS=ok');
    assert.deepEqual(failures, []);
  });

  it('is not there without NOTIFY_SOCKET: nothing happens, and there is no watchdog', () => {
    for (const environment of [{}, { NOTIFY_SOCKET: '' }, { WATCHDOG_USEC: '30000000' }]) {
      const manager = managerOf(environment);
      assert.equal(manager.present, false);
      assert.equal(manager.watchdogIntervalMs, null);
      const sent = [
        manager.ready('x'),
        manager.status('x'),
        manager.reloading(),
        manager.watchdog(),
        manager.stopping(),
      ];
      assert.deepEqual(new Set(sent), new Set([false]));
    }
    assert.deepEqual(failures, []);
  });

  it('asks for a sign of life at half of WATCHDOG_USEC, of this process only', () => {
    const interval = (usec: string | undefined, pid?: string) =>
      managerOf({ NOTIFY_SOCKET: path, WATCHDOG_USEC: usec, WATCHDOG_PID: pid }).watchdogIntervalMs;
    assert.equal(interval('30000000'), 15_000);
    assert.equal(interval('30000000', String(process.pid)), 15_000);
    assert.equal(interval('30000000', String(process.pid + 1)), null);
    assert.equal(interval('5001'), 2);
    assert.equal(interval('1'), 1);
    for (const none of [undefined, '', '0', '-1', 'soon', '1e6', '0x10']) assert.equal(interval(none), null);
  });

  it('may be gone: that is reported once, and nothing is thrown', () => {
    const manager = managerOf({ NOTIFY_SOCKET: path });
    const before = openDescriptors();
    assert.equal(manager.ready('too early'), false);
    {
      using receiver = new Receiver(path);
      chmodSync(path, 0o777);
      assert.equal(manager.watchdog(), true);
      assert.equal(receiver.next(), 'WATCHDOG=1');
    }
    // The file is still there, and nobody reads.
    assert.equal(manager.watchdog(), false);
    assert.equal(manager.stopping(), false);
    assert.deepEqual(
      failures.map((error) => [error.code, error.details['errno'], error.message.includes(path)]),
      [['kernel_refused', 'ENOENT', true]],
    );
    assert.equal(openDescriptors(), before);
  });

  it('may be too slow: a full socket neither blocks nor throws, and later messages arrive', () => {
    using receiver = new Receiver(path);
    const manager = managerOf({ NOTIFY_SOCKET: path });
    let accepted = 0;
    while (manager.status(`message ${accepted}`)) accepted += 1;
    assert.ok(accepted > 0);
    assert.equal(manager.status('another'), false);
    assert.deepEqual(
      failures.map((error) => error.details['errno']),
      ['EAGAIN'],
    );
    for (let index = 0; index < accepted; index++) assert.equal(receiver.next(), `STATUS=message ${index}`);
    assert.equal(receiver.next(), null);
    assert.equal(manager.ready('again'), true);
    assert.equal(receiver.next(), 'READY=1\nSTATUS=again');
  });

  it('may have an address that is none, which is reported once with the variable named', () => {
    const longest = `/${'p'.repeat(106)}`;
    for (const address of ['relative/path', 'vsock:2:1234', `${longest}p`, `@${'a'.repeat(108)}`]) {
      const before = failures.length;
      const manager = managerOf({ NOTIFY_SOCKET: address });
      assert.equal(manager.ready('x'), false);
      assert.equal(manager.watchdog(), false);
      assert.equal(failures.length, before + 1);
      assert.equal(failures.at(-1)?.code, 'invalid_config');
      assert.match(failures.at(-1)?.message ?? '', /NOTIFY_SOCKET/);
    }
    // One byte less is an address, where nobody listens.
    managerOf({ NOTIFY_SOCKET: longest }).ready('x');
    assert.equal(failures.at(-1)?.details['errno'], 'ENOENT');
  });

  it('may be missing a listener for reports', () => {
    assert.equal(new ServiceManager(fixture.native, { NOTIFY_SOCKET: path }).ready('x'), false);
  });
});
