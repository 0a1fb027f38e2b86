// SPDX-License-Identifier: Apache-2.0
/**
 * Binds the signature tables with ffi-napi and ref-napi (optional dependencies).
 * An address is bound as uint64: on x86-64 and arm64 both travel in the same registers. Memory of JavaScript is passed
 * by address too, because ref-napi registers a finalizer each time that it is handed a Buffer: a long-lived one would
 * grow without bound and get slower with every call.
 */
import { createRequire } from 'node:module';

import { VnicError } from '../../errors.ts';
import type { NativeType, Signature, SignatureTable } from './signatures.ts';
import type { Adapter, NativeFunctions, PrintCallback } from './types.ts';

type BoundFunction = (...args: unknown[]) => unknown;

/** The parts of ffi-napi and ref-napi used here; their own declarations name other packages. */
interface FfiNapi {
  Library(
    path: string,
    functions: Record<string, [result: string, parameters: string[]]>,
  ): Record<string, BoundFunction>;
  Callback(result: string, parameters: string[], callback: (...args: never[]) => unknown): Buffer;
}
interface RefNapi {
  /** Follows the pointer stored at `offset`; the returned Buffer spans `lengthBytes` at its target. */
  readPointer(buffer: Buffer, offset: number, lengthBytes: number): Buffer<ArrayBuffer>;
  writePointer(buffer: Buffer, offset: number, target: Buffer): void;
}

const ffiNapiTypes: Readonly<Record<NativeType, string>> = {
  void: 'void',
  bool: 'bool',
  i32: 'int32',
  u32: 'uint32',
  i64: 'int64',
  u64: 'uint64',
  size: 'size_t',
  ssize: 'int64',
  ptr: 'uint64',
  buf: 'uint64',
  str: 'string',
  cstr: 'string',
  print_callback: 'uint64',
};

/** ref-napi takes and gives 64-bit integers as number where they fit, as decimal text otherwise. */
function encodeInteger(value: bigint): number | string {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value.toString();
}

function decodeResult(value: unknown, type: NativeType): unknown {
  switch (type) {
    case 'void':
      return undefined;
    case 'ptr':
    case 'i64':
    case 'u64':
      return BigInt(value as number | string);
    case 'size':
    case 'ssize':
      return Number(value);
    default:
      return value;
  }
}

export function createFfiNapiAdapter(): Adapter {
  const require = createRequire(import.meta.url);
  const ffi = require('ffi-napi') as FfiNapi;
  const ref = require('ref-napi') as RefNapi;
  /** ffi-napi calls a collected callback with a crash: keep every one. */
  const callbacks: Buffer[] = [];
  const baseAddresses = new WeakMap<ArrayBufferLike, bigint>();
  /** Written after each call, so that the arguments are alive until then although only addresses were passed. */
  const keepAlive: { lastArguments: unknown } = { lastArguments: undefined };

  function addressStoredIn(pointer: Buffer): bigint {
    return new BigUint64Array(pointer.buffer, pointer.byteOffset, 1)[0]!;
  }

  /** An ArrayBuffer never moves until it is detached; asking for `buffer` moves a small array off V8's heap for good. */
  function addressOf(bytes: Uint8Array): bigint {
    const { buffer } = bytes;
    if (buffer instanceof ArrayBuffer && buffer.detached) throw new TypeError('The memory passed is detached.');
    let base = baseAddresses.get(buffer);
    if (base === undefined) {
      const pointer = Buffer.alloc(8);
      ref.writePointer(pointer, 0, Buffer.from(buffer));
      base = addressStoredIn(pointer);
      baseAddresses.set(buffer, base);
    }
    return base + BigInt(bytes.byteOffset);
  }

  function encodeArgument(value: unknown): unknown {
    if (typeof value === 'bigint') return encodeInteger(value);
    if (value instanceof Uint8Array) return encodeInteger(addressOf(value));
    return value === null ? 0 : value;
  }

  function convert(call: BoundFunction, [result]: Signature): BoundFunction {
    return (...args) => {
      const value = call(...args.map(encodeArgument));
      keepAlive.lastArguments = args;
      return decodeResult(value, result);
    };
  }

  return {
    name: 'ffi-napi',

    bind<T extends SignatureTable>(library: string, table: T): NativeFunctions<T> {
      const declarations = Object.entries(table).map(([name, [result, parameters]]) => [
        name,
        [ffiNapiTypes[result], parameters.map((type) => ffiNapiTypes[type])],
      ]);
      const raw = ffi.Library(library, Object.fromEntries(declarations));
      const bound = Object.entries(table).map(([name, signature]) => [name, convert(raw[name]!, signature)]);
      return Object.fromEntries(bound) as NativeFunctions<T>;
    },

    view(address: bigint, lengthBytes: number): ArrayBuffer {
      const pointer = Buffer.alloc(8);
      new BigUint64Array(pointer.buffer, pointer.byteOffset, 1)[0] = address;
      const { buffer } = ref.readPointer(pointer, 0, lengthBytes);
      // ref-napi keeps one ArrayBuffer for each address and hands out an earlier, longer one again.
      if (buffer.byteLength !== lengthBytes) {
        throw new VnicError(
          'failed',
          `ffi-napi cannot view ${lengthBytes} bytes at an address viewed with ${buffer.byteLength} bytes before.`,
          { remedy: 'Use the default FFI adapter: unset VNIC_FFI.' },
        );
      }
      return buffer;
    },

    makePrintCallback(callback: PrintCallback): bigint {
      const native = ffi.Callback(
        'int32',
        ['int32', 'uint64', 'uint64'],
        (level: number, format: number | string, vaList: number | string) =>
          callback(level, BigInt(format), BigInt(vaList)),
      );
      callbacks.push(native);
      const pointer = Buffer.alloc(8);
      ref.writePointer(pointer, 0, native);
      return addressStoredIn(pointer);
    },
  };
}
