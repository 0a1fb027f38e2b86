// SPDX-License-Identifier: Apache-2.0
/** Codecs of keys and values that are no structs. */
import { type Codec, hostLittleEndian, putBytes, putU32, putU64, readBytes } from './codec.ts';

type Scalar = number | bigint | Uint8Array;

/** The two functions carry the value's own type, because `Inputs` of a type parameter is not resolved. */
function scalarCodec<T extends Scalar>(
  name: string,
  size: number,
  read: (view: DataView, offset: number) => T,
  write: (view: DataView, offset: number, value: T) => void,
): Omit<Codec<T>, 'encode' | 'write'> & {
  encode: (value: T) => Uint8Array<ArrayBuffer>;
  write: (view: DataView, offset: number, value: T) => void;
} {
  return {
    name,
    size,
    read,
    write,
    encode(value) {
      const bytes = new Uint8Array(size);
      write(new DataView(bytes.buffer), 0, value);
      return bytes;
    },
    decode: (bytes, offset = 0) => read(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset),
  };
}

/** In the host's byte order. */
export const u32Codec: Codec<number> = scalarCodec<number>(
  '__u32',
  4,
  (view, offset) => view.getUint32(offset, hostLittleEndian),
  (view, offset, value) => putU32(view, offset, value, hostLittleEndian, '__u32'),
);

/** In the host's byte order. */
export const u64Codec: Codec<bigint> = scalarCodec<bigint>(
  '__u64',
  8,
  (view, offset) => view.getBigUint64(offset, hostLittleEndian),
  (view, offset, value) => putU64(view, offset, value, hostLittleEndian, '__u64'),
);

/** Bytes as they are; a shorter value is filled up with zeros, a longer one is refused. */
export function bytesCodec(size: number): Codec<Uint8Array> {
  return scalarCodec<Uint8Array>(
    `__u8[${size}]`,
    size,
    (view, offset) => readBytes(view, offset, size),
    (view, offset, value) => {
      new Uint8Array(view.buffer, view.byteOffset + offset, size).fill(0);
      putBytes(view, offset, size, value, 'bytes');
    },
  );
}
