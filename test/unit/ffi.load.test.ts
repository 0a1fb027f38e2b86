// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';

import { VnicError } from '../../src/errors.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { createKoffiAdapter } from '../../src/loader/ffi/koffi-adapter.ts';
import { bindLibrary } from '../../src/loader/ffi/native.ts';
import { libbpfSignatures, type SignatureTable } from '../../src/loader/ffi/signatures.ts';

function withAdapterVariable<T>(value: string | undefined, action: () => T): T {
  const earlier = process.env['VNIC_FFI'];
  const set = (text: string | undefined): void => {
    if (text === undefined) delete process.env['VNIC_FFI'];
    else process.env['VNIC_FFI'] = text;
  };
  set(value);
  try {
    return action();
  } finally {
    set(earlier);
  }
}

describe('choosing and loading native libraries', () => {
  it('uses koffi unless told otherwise', () => {
    assert.equal(withAdapterVariable(undefined, loadNative).adapter, 'koffi');
    assert.equal(withAdapterVariable('', loadNative).adapter, 'koffi');
    assert.equal(withAdapterVariable('koffi', loadNative).adapter, 'koffi');
  });

  it('refuses an unknown adapter and lists the known ones', () => {
    for (const name of ['libffi', 'toString', 'KOFFI']) {
      assert.throws(
        () => withAdapterVariable(name, loadNative),
        (error) =>
          error instanceof VnicError &&
          error.code === 'invalid_config' &&
          error.message.includes(`'${name}'`) &&
          /koffi or ffi-napi/.test(error.remedy ?? ''),
      );
    }
  });

  it('lets the option win over the variable', () => {
    assert.equal(withAdapterVariable('libffi', () => loadNative({ adapter: 'koffi' })).adapter, 'koffi');
  });

  it('names the package to install when libbpf is missing', () => {
    assert.throws(
      () => bindLibrary(createKoffiAdapter(), 'libbpf.so.99', libbpfSignatures),
      (error) =>
        error instanceof VnicError &&
        error.code === 'preflight_refused' &&
        error.message.includes('libbpf.so.99') &&
        /libbpf1\b/.test(error.remedy ?? ''),
    );
  });

  it('names the function that an older libbpf does not have', () => {
    const table: SignatureTable = { bpf_from_the_future: ['i32', [], 'errno'] };
    assert.throws(
      () => bindLibrary(createKoffiAdapter(), 'libbpf.so.1', table),
      (error) => error instanceof VnicError && error.message.includes('bpf_from_the_future'),
    );
  });
});
