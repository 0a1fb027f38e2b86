// SPDX-License-Identifier: Apache-2.0
import type { Native } from '../../src/loader/ffi/index.ts';

/** Stands for the native functions where none may be called; any use fails the test. */
export const ffiThatMustNotBeUsed: Native = new Proxy({} as Native, {
  get(_target, name) {
    throw new Error(`native.${String(name)} was used`);
  },
});
