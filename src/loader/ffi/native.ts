// SPDX-License-Identifier: Apache-2.0
/** Builds the port from an adapter: memory, errno, failure checks and libbpf's messages, the same for both adapters. */
import { VnicError } from '../../errors.ts';
import { failureOf, isFailure, nativeError } from './failure.ts';
import { internalSignatures, libbpfSignatures, libcSignatures, type SignatureTable } from './signatures.ts';
import type { Adapter, LibcFunctions, Memory, Native, NativeCall, NativeFunctions, PrintHandler } from './types.ts';

type InternalFunctions = NativeFunctions<typeof internalSignatures>;

const libbpfLibrary = 'libbpf.so.1';
const libcLibrary = 'libc.so.6';

/** sizeof(va_list): 24 on x86-64, 32 on arm64 (psABI, AAPCS64); reading 8 bytes more of the stack does no harm. */
const vaListBytes = 32;
const printBufferBytes = 4096;

/** Binds a table; a library or function that is missing becomes an error that names the package to install. */
export function bindLibrary<T extends SignatureTable>(adapter: Adapter, library: string, table: T): NativeFunctions<T> {
  try {
    return adapter.bind(library, table);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new VnicError('preflight_refused', `${library} cannot be used: ${reason}`, {
      remedy: library.startsWith('libbpf')
        ? 'Install libbpf 1.1 or newer: apt-get install libbpf1'
        : 'Use a system with the GNU C library.',
      details: { library },
      cause,
    });
  }
}

/**
 * Functions that leave their reason in `errno` only, wrapped so that it is kept at once: whatever runs between the
 * call and `check` (a collection, another call) may overwrite it.
 */
function keepErrno<T extends SignatureTable>(
  functions: NativeFunctions<T>,
  table: T,
  keep: () => void,
): NativeFunctions<T> {
  const wrapped = Object.entries(functions).map(([name, call]) => {
    const failure = table[name]![2];
    if (failure === 'errno' || failure === 'never') return [name, call];
    return [
      name,
      (...args: never[]) => {
        const result = call(...args);
        if (isFailure(result, failure)) keep();
        return result;
      },
    ];
  });
  return Object.fromEntries(wrapped) as NativeFunctions<T>;
}

interface MemoryWithViews extends Memory {
  /** Makes the view of memory that is gone unusable, without reading the memory. */
  detach(address: bigint): void;
}

function createMemory(adapter: Adapter, libc: LibcFunctions, internal: InternalFunctions): MemoryWithViews {
  const views = new Map<bigint, WeakRef<ArrayBuffer>>();
  return {
    alloc: (lengthBytes) => new Uint8Array(new ArrayBuffer(lengthBytes)),
    // memmove returns its first argument; nothing is moved.
    addressOf: (bytes) => libc.memmove(bytes, bytes, 0),
    view(address, lengthBytes) {
      if (address === 0n || !(lengthBytes >= 1)) {
        throw new RangeError(`Cannot view ${lengthBytes} bytes at address ${address}.`);
      }
      const earlier = views.get(address)?.deref();
      if (earlier?.byteLength === lengthBytes) return earlier;
      const buffer = adapter.view(address, lengthBytes);
      views.set(address, new WeakRef(buffer));
      return buffer;
    },
    readCString: (address) => (address === 0n ? null : internal.strstr(address, '')),
    detach(address) {
      // To no bytes: a buffer that only changed hands would count as memory until garbage is collected, and bring that on.
      views.get(address)?.deref()?.transfer(0);
      views.delete(address);
    },
  };
}

function createSetPrint(adapter: Adapter, native: Omit<Native, 'setPrint'>, internal: InternalFunctions) {
  const { libbpf, libc, memory } = native;
  const buffer = memory.alloc(printBufferBytes);
  const vaListCopy = memory.alloc(vaListBytes);
  const decoder = new TextDecoder();
  let current: PrintHandler | null = null;
  let callbackAddress = 0n;

  /** The first attempt works on a copy of the va_list, because vsnprintf uses it up and a long text needs a second. */
  function format(formatAddress: bigint, vaList: bigint): string {
    internal.memcpy(vaListCopy, vaList, vaListBytes);
    const length = libc.vsnprintf(buffer, buffer.length, formatAddress, memory.addressOf(vaListCopy));
    if (length < buffer.length) return decoder.decode(buffer.subarray(0, Math.max(length, 0)));
    const longBuffer = memory.alloc(length + 1);
    libc.vsnprintf(longBuffer, longBuffer.length, formatAddress, vaList);
    return decoder.decode(longBuffer.subarray(0, length));
  }

  function print(level: number, formatAddress: bigint, vaList: bigint): number {
    // An exception must not cross libbpf's C frames.
    try {
      current?.(level, format(formatAddress, vaList));
    } catch (error) {
      process.emitWarning(error instanceof Error ? error : String(error));
    }
    return 0;
  }

  return (handler: PrintHandler | null): void => {
    current = handler;
    if (handler !== null && callbackAddress === 0n) callbackAddress = adapter.makePrintCallback(print);
    libbpf.libbpf_set_print(handler === null ? 0n : callbackAddress);
  };
}

/** Throws VnicError `preflight_refused` when libbpf or one of its functions is missing. */
export function createNative(adapter: Adapter): Native {
  const internal = bindLibrary(adapter, libcLibrary, internalSignatures);
  // The address is the thread's own; each worker thread has its own module instances and so its own view.
  const errnoCell = new Int32Array(adapter.view(internal.__errno_location(), 4));
  let lastErrno = 0;
  const keep = (): void => {
    lastErrno = errnoCell[0]!;
  };

  const libbpf = keepErrno(bindLibrary(adapter, libbpfLibrary, libbpfSignatures), libbpfSignatures, keep);
  const rawLibc = keepErrno(bindLibrary(adapter, libcLibrary, libcSignatures), libcSignatures, keep);
  const memory = createMemory(adapter, rawLibc, internal);
  const libc: LibcFunctions = {
    ...rawLibc,
    munmap(address, lengthBytes) {
      const result = rawLibc.munmap(address, lengthBytes);
      if (result === 0) memory.detach(address);
      return result;
    },
  };

  const native = {
    adapter: adapter.name,
    libbpf,
    libc,
    memory,
    errno: () => lastErrno,
    check<T extends number | bigint | string | null>(result: T, call: NativeCall, subject?: string): NonNullable<T> {
      const failure = failureOf(call);
      if (isFailure(result, failure)) {
        throw nativeError(call, failure === 'errno' ? -Number(result) : lastErrno, subject);
      }
      return result as NonNullable<T>;
    },
  };
  return { ...native, setPrint: createSetPrint(adapter, native, internal) };
}
