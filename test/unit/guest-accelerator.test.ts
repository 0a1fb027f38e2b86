// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { bootTries } from '../vm/harness/accelerator.ts';

const names = (...args: Parameters<typeof bootTries>) =>
  bootTries(...args).map(({ accelerator }) => accelerator.split(',')[0]);

describe('the accelerators that a guest is tried with', () => {
  it('are KVM once, where it is there, and emulation twice', () => {
    assert.deepEqual(names(false), ['tcg', 'tcg']);
    assert.deepEqual(names(true), ['kvm', 'tcg', 'tcg']);
  });

  it('leave out a KVM that has not brought a guest up, and never emulation', () => {
    assert.deepEqual(names(true, new Set(['kvm'])), ['tcg', 'tcg']);
    assert.deepEqual(names(true, new Set(['kvm', 'tcg,thread=single'])), ['tcg', 'tcg']);
  });

  it('give KVM less time, so that one that crawls costs little', () => {
    const [kvm, emulated] = bootTries(true);
    assert.ok(kvm!.limitMs < emulated!.limitMs);
  });
});
