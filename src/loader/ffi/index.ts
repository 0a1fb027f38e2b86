// SPDX-License-Identifier: Apache-2.0
/** The one way to native code: libbpf and libc behind a typed port. */
import { VnicError } from '../../errors.ts';
import { createFfiNapiAdapter } from './ffi-napi-adapter.ts';
import { createKoffiAdapter } from './koffi-adapter.ts';
import { createNative } from './native.ts';
import type { Adapter, AdapterName, LoadNativeOptions, Native } from './types.ts';

export { errnoName } from './failure.ts';
export type * from './types.ts';

const adapterFactories: Readonly<Record<AdapterName, () => Adapter>> = {
  koffi: createKoffiAdapter,
  'ffi-napi': createFfiNapiAdapter,
};

const loaded = new Map<AdapterName, Native>();

function isAdapterName(name: string): name is AdapterName {
  return Object.hasOwn(adapterFactories, name);
}

function chosenAdapter(): AdapterName {
  const { VNIC_FFI: name } = process.env;
  if (name === undefined || name === '') return 'koffi';
  if (isAdapterName(name)) return name;
  throw new VnicError('invalid_config', `VNIC_FFI is '${name}', which is no FFI adapter.`, {
    remedy: `Set VNIC_FFI to ${Object.keys(adapterFactories).join(' or ')}, or unset it.`,
  });
}

function createAdapter(name: AdapterName): Adapter {
  try {
    return adapterFactories[name]();
  } catch (cause) {
    throw new VnicError('failed', `The FFI adapter ${name} cannot be loaded.`, {
      remedy:
        name === 'koffi'
          ? 'Install the dependencies again: npm ci'
          : 'Unset VNIC_FFI, or install the optional dependencies (needs a C++ compiler): npm ci --include=optional',
      cause,
    });
  }
}

/**
 * Loads libbpf and libc, once for each adapter.
 * Throws VnicError `invalid_config` (unknown VNIC_FFI), `failed` (adapter cannot be loaded) or `preflight_refused`
 * (libbpf is missing).
 */
export function loadNative(options: LoadNativeOptions = {}): Native {
  const name = options.adapter ?? chosenAdapter();
  const earlier = loaded.get(name);
  if (earlier !== undefined) return earlier;
  const native = createNative(createAdapter(name));
  loaded.set(name, native);
  return native;
}
