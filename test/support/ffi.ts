// SPDX-License-Identifier: Apache-2.0
/** Runs one suite through every FFI adapter, against the real libbpf, libc and kernel. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { VnicError } from '../../src/errors.ts';
import { type AdapterName, loadNative, type Native } from '../../src/loader/ffi/index.ts';
import { skip } from './skip.ts';

const adapters: readonly AdapterName[] = ['koffi', 'ffi-napi'];

export interface AdapterFixture {
  readonly adapter: AdapterName;
  /** Set before the first test runs. */
  native: Native;
  /** A folder of the suite's own, removed after it. */
  folder: string;
}

/** Declares `title through ADAPTER` for each adapter; skips ffi-napi with its reason where it cannot be loaded. */
export function describeEachAdapter(title: string, declareTests: (fixture: AdapterFixture) => void): void {
  for (const adapter of adapters) {
    describe(`${title} through ${adapter}`, () => {
      const fixture = { adapter } as AdapterFixture;

      before(function () {
        fixture.folder = mkdtempSync(join(tmpdir(), 'vnic-ffi-'));
        try {
          fixture.native = loadNative({ adapter });
        } catch (error) {
          // The default adapter is a hard dependency; the other one is optional.
          if (adapter === 'koffi' || !(error instanceof VnicError) || error.code !== 'failed') throw error;
          skip(this, `${error.message} ${String(error.cause)}`);
        }
        fixture.native.setPrint(null);
      });

      // Not set when the adapter could not be loaded.
      afterEach(() => (fixture.native as Native | undefined)?.setPrint(null));
      after(() => rmSync(fixture.folder, { recursive: true, force: true }));

      declareTests(fixture);
    });
  }
}

export function requireRoot(context: Mocha.Context): void {
  if (process.getuid?.() !== 0) skip(context, 'creating BPF maps and programs needs root');
}

export function exposeGarbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

export function u32Bytes(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

export function u64Bytes(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(value).buffer);
}

export function readU64(bytes: Uint8Array): bigint {
  return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
}
