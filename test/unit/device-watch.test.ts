// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';

import { VnicError } from '../../src/errors.ts';
import { readLinks } from '../../src/loader/device-watch.ts';
import { hostLittleEndian } from '../../src/maps/codec.ts';
import { Ifinfomsg, Netlink, Nlmsghdr, Rtattr } from '../../src/maps/generated/host.ts';
import { thrownBy } from '../support/thrown.ts';

const IFLA_MTU = 4;

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}

function attribute(type: number, payload: Uint8Array | string): Buffer {
  const bytes = Buffer.from(payload);
  return padded(Buffer.concat([Rtattr.encode({ rtaLen: Rtattr.size + bytes.length, rtaType: type }), bytes]));
}

function message(nlmsgType: number, body: Uint8Array, nlmsgFlags = 2): Buffer {
  const nlmsgLen = Nlmsghdr.size + body.length;
  return padded(Buffer.concat([Nlmsghdr.encode({ nlmsgLen, nlmsgType, nlmsgFlags }), body]));
}

function newLink(ifiIndex: number, attributes: readonly Uint8Array[], flags?: number): Buffer {
  return message(Netlink.newLink, Buffer.concat([Ifinfomsg.encode({ ifiIndex }), ...attributes]), flags);
}

function number(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, hostLittleEndian);
  return bytes;
}

/** On memory of exactly that length, so that a read beyond it throws. */
function read(...messages: Uint8Array[]) {
  const bytes = new Uint8Array(Buffer.concat(messages));
  return readLinks(new DataView(bytes.buffer), bytes.length);
}

const eth7 = newLink(70, [
  attribute(Netlink.linkName, 'eth7\0'),
  attribute(IFLA_MTU, number(1500)),
  attribute(Netlink.linkAddress, Uint8Array.of(2, 0, 0, 0xab, 0xcd, 0xef)),
]);

describe('a list of network devices from the kernel', () => {
  it('has the name, index and link-layer address of each', () => {
    const tunnel = newLink(3, [attribute(Netlink.linkName, 'tun0\0')]);
    const bare = newLink(4, [attribute(Netlink.linkName, 'x\0'), attribute(Netlink.linkAddress, '')]);
    const infiniband = newLink(5, [
      attribute(Netlink.linkAddress, new Uint8Array(20).fill(0x1f)),
      attribute(Netlink.linkName, 'ib0\0'),
    ]);
    assert.deepEqual(read(eth7, tunnel, bare, infiniband), {
      links: [
        ['eth7', { ifindex: 70, mac: '02:00:00:ab:cd:ef' }],
        ['tun0', { ifindex: 3, mac: null }],
        ['x', { ifindex: 4, mac: null }],
        ['ib0', { ifindex: 5, mac: Array(20).fill('1f').join(':') }],
      ],
      done: false,
      interrupted: false,
    });
  });

  it('ends with the message that says so, and says whether devices changed meanwhile', () => {
    assert.deepEqual(read(message(Netlink.done, number(0))), { links: [], done: true, interrupted: false });
    const interrupted = 2 | Netlink.dumpInterrupted;
    const part = read(eth7, message(Netlink.done, number(0), interrupted));
    assert.deepEqual([part.links.length, part.done, part.interrupted], [1, true, true]);
    assert.equal(read(newLink(1, [], interrupted)).interrupted, true);
  });

  it('is refused with the errno that the kernel answered with', () => {
    for (const type of [Netlink.error, Netlink.done]) {
      const error = thrownBy(() => read(message(type, Buffer.concat([number(-1), new Uint8Array(16)]))));
      assert.equal(error.code, 'kernel_refused');
      assert.match(error.message, /EPERM/);
      assert.equal(error.details['errno'], 'EPERM');
    }
  });

  it('is refused when it was longer than the memory for it', () => {
    const error = thrownBy(() => readLinks(new DataView(new ArrayBuffer(64)), 65));
    assert.match(error.message, /cut off/);
  });

  it('is refused or read, never misread, when bytes of it are cut off', () => {
    const whole = Buffer.concat([eth7, message(Netlink.done, number(0))]);
    for (let length = 0; length < whole.length; length++) {
      // Cuts between messages leave a list that has not ended.
      if (length === 0 || length === eth7.length) assert.equal(read(whole.subarray(0, length)).done, false);
      else assert.match(thrownBy(() => read(whole.subarray(0, length))).message, /cut off/);
    }
    for (const rtaLen of [0, 3, 40]) {
      const broken = Rtattr.encode({ rtaLen, rtaType: Netlink.linkName });
      assert.match(thrownBy(() => read(newLink(1, [broken]))).message, /cut off/);
    }
  });

  it('neither hangs nor reads beyond its end, whatever the bytes are', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.nat(eth7.length - 1), fc.nat(255), (bytes, at, value) => {
        const damaged = Buffer.from(eth7);
        damaged[at] = value;
        for (const input of [bytes, damaged, Buffer.concat([eth7, bytes])]) {
          try {
            read(input);
          } catch (error) {
            assert.ok(error instanceof VnicError, String(error));
          }
        }
      }),
    );
  });
});
