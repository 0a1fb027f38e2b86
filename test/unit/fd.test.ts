// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync } from 'node:fs';

import { VnicError } from '../../src/errors.ts';
import { Fd } from '../../src/loader/fd.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';

describe('an owned file descriptor', () => {
  const native = loadNative();

  function isOpen(fd: number): boolean {
    try {
      fstatSync(fd);
      return true;
    } catch {
      return false;
    }
  }

  it('closes its descriptor, and refuses to be used afterwards', () => {
    const fd = new Fd(native, openSync('/dev/null', 'r'));
    const number = fd.value;
    assert.ok(isOpen(number));
    assert.equal(fd.closed, false);
    fd.close();
    assert.equal(isOpen(number), false);
    assert.equal(fd.closed, true);
    assert.throws(() => fd.value, VnicError);
  });

  it('does not close a descriptor that got the same number later', () => {
    const fd = new Fd(native, openSync('/dev/null', 'r'));
    const number = fd.value;
    fd.close();
    const reused = openSync('/dev/null', 'r');
    try {
      assert.equal(reused, number, 'the kernel hands out the lowest free number');
      fd.close();
      assert.ok(isOpen(reused));
    } finally {
      closeSync(reused);
    }
  });

  it('is closed at the end of a using block, also when the block throws', () => {
    let number = -1;
    assert.throws(() => {
      using fd = new Fd(native, openSync('/dev/null', 'r'));
      number = fd.value;
      throw new Error('trouble');
    }, /trouble/);
    assert.equal(isOpen(number), false);
  });

  it('hands its descriptor over without closing it', () => {
    const fd = new Fd(native, openSync('/dev/null', 'r'));
    const number = fd.release();
    fd.close();
    assert.ok(isOpen(number));
    closeSync(number);
    assert.throws(() => fd.release(), VnicError);
  });

  it('takes 0 and refuses what is no descriptor', () => {
    assert.equal(new Fd(native, 0).value, 0);
    for (const value of [-1, -22, 1.5, Number.NaN]) assert.throws(() => new Fd(native, value), VnicError);
  });

  it('reports that the kernel refused to close, once', () => {
    const fd = new Fd(native, openSync('/dev/null', 'r'));
    closeSync(fd.value);
    assert.throws(
      () => fd.close(),
      (error) => error instanceof VnicError && error.details['errno'] === 'EBADF',
    );
    fd.close();
  });
});
