// SPDX-License-Identifier: Apache-2.0
/** Binds the signature tables with koffi 3 (https://koffi.dev), which represents pointers as bigint. */
import { createRequire } from 'node:module';

import type { NativeType, Signature, SignatureTable } from './signatures.ts';
import type { Adapter, NativeFunctions, PrintCallback } from './types.ts';

type BoundFunction = (...args: unknown[]) => unknown;

/** koffi's prototype type object; opaque here. */
type KoffiType = object;

/** The part of koffi used here; its own declarations are full of `any`. */
interface Koffi {
  load(path: string): { func(name: string, result: string, parameters: string[]): BoundFunction };
  proto(result: string, parameters: string[]): KoffiType;
  pointer(type: KoffiType): KoffiType;
  register(callback: (...args: never[]) => unknown, type: KoffiType): bigint;
  view(address: bigint, lengthBytes: number): ArrayBuffer;
}

const koffiTypes: Readonly<Record<NativeType, string>> = {
  void: 'void',
  bool: 'bool',
  i32: 'int32',
  u32: 'uint32',
  i64: 'int64',
  u64: 'uint64',
  size: 'size_t',
  ssize: 'int64',
  ptr: 'void *',
  buf: 'void *',
  str: 'str',
  cstr: 'str',
  print_callback: 'void *',
};

/** koffi returns 64-bit integers as number where they fit, and NULL as null. */
function convertResult(call: BoundFunction, [result]: Signature): BoundFunction {
  switch (result) {
    case 'ptr':
      return (...args) => (call(...args) as bigint | null) ?? 0n;
    case 'i64':
    case 'u64':
      return (...args) => BigInt(call(...args) as number | bigint);
    case 'ssize':
      return (...args) => Number(call(...args) as number | bigint);
    default:
      return call;
  }
}

export function createKoffiAdapter(): Adapter {
  const koffi = createRequire(import.meta.url)('koffi') as Koffi;
  return {
    name: 'koffi',

    bind<T extends SignatureTable>(library: string, table: T): NativeFunctions<T> {
      const handle = koffi.load(library);
      const bound = Object.entries(table).map(([name, signature]) => {
        const parameters = signature[1].map((type) => koffiTypes[type]);
        return [name, convertResult(handle.func(name, koffiTypes[signature[0]], parameters), signature)];
      });
      return Object.fromEntries(bound) as NativeFunctions<T>;
    },

    view(address: bigint, lengthBytes: number): ArrayBuffer {
      return koffi.view(address, lengthBytes);
    },

    makePrintCallback(callback: PrintCallback): bigint {
      const type = koffi.pointer(koffi.proto('int32', ['int32', 'uint64', 'uint64']));
      return koffi.register(
        (level: number, format: number | bigint, vaList: number | bigint) =>
          callback(level, BigInt(format), BigInt(vaList)),
        type,
      );
    },
  };
}
