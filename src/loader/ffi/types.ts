// SPDX-License-Identifier: Apache-2.0
/**
 * The port through which everything reaches libbpf and libc. Types only; the function types are derived from the
 * tables in `signatures.ts`.
 */
import type { libbpfSignatures, libcSignatures, NativeType, Signature, SignatureTable } from './signatures.ts';

export type AdapterName = 'koffi' | 'ffi-napi';

/** JavaScript's side of each native type. */
interface ValueOf {
  void: undefined;
  bool: boolean;
  i32: number;
  u32: number;
  i64: bigint;
  u64: bigint;
  size: number;
  ssize: number;
  ptr: bigint;
  buf: Uint8Array | null;
  str: string;
  cstr: string | null;
  /** Address of a native function, see `Native.setPrint`. */
  print_callback: bigint;
}

type Values<T extends readonly NativeType[]> = { -readonly [I in keyof T]: ValueOf[T[I]] };

/** The function that a signature describes. `buf` parameters must stay unresized during the call. */
export type NativeFunction<S extends Signature> = (...args: Values<S[1]>) => ValueOf[S[0]];

export type NativeFunctions<T extends SignatureTable> = { readonly [K in keyof T]: NativeFunction<T[K]> };

export type LibbpfFunctions = NativeFunctions<typeof libbpfSignatures>;
export type LibcFunctions = NativeFunctions<typeof libcSignatures>;

export type LibbpfCall = keyof LibbpfFunctions;
export type LibcCall = keyof LibcFunctions;
export type NativeCall = LibbpfCall | LibcCall;

export interface Memory {
  /** Zeroed bytes on an ArrayBuffer of their own, so that their address never changes while they are referenced. */
  alloc(lengthBytes: number): Uint8Array<ArrayBuffer>;
  /**
   * Address of memory made by `alloc` or `view`, to be stored in a native struct. The caller keeps `bytes` referenced
   * for as long as native code may use the address. Only memory of an ArrayBuffer of its own has a lasting address.
   */
  addressOf(bytes: Uint8Array): bigint;
  /**
   * Memory at a native address, not copied and not owned. `munmap` of exactly this address detaches it, so that later
   * use fails in JavaScript; touching it after the memory went away otherwise kills the process.
   * Throws a RangeError for address 0n or a length below 1.
   */
  view(address: bigint, lengthBytes: number): ArrayBuffer;
  /** The NUL-terminated UTF-8 string at an address, copied; null for 0n. */
  readCString(address: bigint): string | null;
}

/** libbpf's print levels (`enum libbpf_print_level`): 0 warning, 1 information, 2 debug. */
export type PrintHandler = (level: number, text: string) => void;

export interface Native {
  readonly adapter: AdapterName;
  readonly libbpf: LibbpfFunctions;
  readonly libc: LibcFunctions;
  readonly memory: Memory;

  /** `errno` of the last function whose failure is not in its result (libc, and libbpf functions returning NULL). */
  errno(): number;

  /**
   * Returns `result` if `call` succeeded. Otherwise throws VnicError `not_permitted` (EPERM, EACCES; the capability is
   * named) or `kernel_refused`, with `details` `{errno: 'EBUSY', errnoNumber: 16, call: 'bpf_link_create'}`.
   * Call it before the next native call. `subject` names what the call was about (a path, a device).
   */
  check<T extends number | bigint | string | null>(result: T, call: NativeCall, subject?: string): NonNullable<T>;

  /**
   * Sends libbpf's messages to `handler`, complete lines with their line feed; null silences libbpf. Until the first
   * call libbpf prints warnings to stderr. The handler does not keep the process alive and must not throw: an error of
   * its own is reported as a process warning.
   *
   * libbpf has one handler for the whole process, worker threads included, and calls it on the thread that set it:
   * another thread whose call prints waits until that one is idle. So while a handler is set, only its thread calls
   * functions on objects. Whoever ends a worker calls `setPrint(null)` afterwards: had the worker a handler set,
   * libbpf's next message would abort the process.
   */
  setPrint(handler: PrintHandler | null): void;
}

export interface LoadNativeOptions {
  /** Default: environment variable VNIC_FFI, else `koffi`. */
  adapter?: AdapterName;
}

/** What an adapter supplies; `native.ts` builds `Native` from it. */
export interface Adapter {
  readonly name: AdapterName;
  /** Binds every function of `table` from a shared library; throws the adapter's own error when one is missing. */
  bind<T extends SignatureTable>(library: string, table: T): NativeFunctions<T>;
  /** An ArrayBuffer of exactly `lengthBytes` over foreign memory. */
  view(address: bigint, lengthBytes: number): ArrayBuffer;
  /** A native function of libbpf's `libbpf_print_fn_t` shape that lives as long as the process; returns its address. */
  makePrintCallback(callback: PrintCallback): bigint;
}

/** `libbpf_print_fn_t`: level, address of the format, address of the `va_list`; returns what libbpf ignores. */
export type PrintCallback = (level: number, format: bigint, vaList: bigint) => number;
