// SPDX-License-Identifier: Apache-2.0
/** Opens a capture file of any kind that can be read, and names those that cannot. */

import { closeSync, fstatSync, openSync } from 'node:fs';
import { VnicError } from '../errors.ts';
import { type ByteSource, bytesSource, fileSource } from './byte-source.ts';
import type { CapturedFrame } from './frame.ts';
import { pcapFormat, readPcap } from './pcap.ts';
import { blockTypes, readPcapng } from './pcapng.ts';

interface OtherKind {
  magic: readonly number[];
  name: string;
  remedy: string;
}

const convert = 'convert it with editcap (Wireshark): editcap -F pcapng FILE NEWFILE';

const otherKinds: readonly OtherKind[] = [
  { magic: [0x1f, 0x8b], name: 'compressed with gzip', remedy: 'decompress it first: gzip -dk FILE.gz' },
  { magic: [0x28, 0xb5, 0x2f, 0xfd], name: 'compressed with zstd', remedy: 'decompress it first: zstd -d FILE.zst' },
  { magic: [0xfd, 0x37, 0x7a, 0x58], name: 'compressed with xz', remedy: 'decompress it first: xz -dk FILE.xz' },
  { magic: [0x42, 0x5a, 0x68], name: 'compressed with bzip2', remedy: 'decompress it first: bzip2 -dk FILE.bz2' },
  { magic: [0x04, 0x22, 0x4d, 0x18], name: 'compressed with lz4', remedy: 'decompress it first: lz4 -d FILE.lz4' },
  { magic: [0x50, 0x4b, 0x03, 0x04], name: 'a zip archive', remedy: 'unpack it first: unzip FILE' },
  { magic: [0x73, 0x6e, 0x6f, 0x6f], name: 'a snoop capture', remedy: convert },
  { magic: [0x47, 0x4d, 0x42, 0x55], name: 'a Microsoft Network Monitor capture', remedy: convert },
  { magic: [0x34, 0xcd, 0xb2, 0xa1], name: 'a modified pcap (magic a1b2cd34)', remedy: convert },
  { magic: [0xa1, 0xb2, 0xcd, 0x34], name: 'a modified pcap (magic a1b2cd34)', remedy: convert },
];

const longestMagicBytes = 4;
const TELL_EVERY_BYTES = 1 << 18;

function refuse(file: string, what: string, remedy: string): VnicError {
  return new VnicError('invalid_capture', `${file}: ${what}`, { remedy, details: { file, offset: 0 } });
}

function* readSource(source: ByteSource, file: string): Generator<CapturedFrame> {
  const magic = source.peek(longestMagicBytes);
  if (magic.length === 0) throw refuse(file, 'the file is empty', 'give a pcap or pcapng file');
  const other = otherKinds.find((kind) => kind.magic.every((byte, index) => magic[index] === byte));
  if (other !== undefined) throw refuse(file, `the file is ${other.name}, not pcap or pcapng`, other.remedy);
  if (magic.length < longestMagicBytes) {
    throw refuse(file, `${magic.length} bytes are too short for a capture`, 'give a pcap or pcapng file');
  }
  const view = new DataView(magic.buffer, magic.byteOffset, longestMagicBytes);
  if (view.getUint32(0) === blockTypes.sectionHeader) {
    yield* readPcapng(source, file);
    return;
  }
  const format = pcapFormat(magic);
  if (format === null) {
    const hex = Array.from(magic, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    throw refuse(file, `not a capture: it begins with ${hex}`, 'give a pcap or pcapng file');
  }
  yield* readPcap(source, file, format);
}

function open(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    const message = missing ? `${path}: no such file` : `${path}: cannot be opened: ${(cause as Error).message}`;
    const remedy = missing ? 'give the path of a pcap or pcapng file' : 'check that the file may be read';
    throw new VnicError(missing ? 'not_found' : 'failed', message, { remedy, cause });
  }
}

/**
 * Every packet of a pcap or pcapng file, in file order, without holding the file in memory.
 * Delivers all packets that can be read and then throws invalid_capture if the file is damaged; not_found or
 * failed if it cannot be opened. `onRead` is told of each so many bytes of the file.
 */
export function* readCapture(
  path: string,
  onRead?: (bytes: number, ofBytes: number) => void,
): Generator<CapturedFrame> {
  const fd = open(path);
  try {
    const source = fileSource(fd);
    const ofBytes = fstatSync(fd).size;
    let told = 0;
    for (const frame of readSource(source, path)) {
      if (onRead !== undefined && source.offset - told >= TELL_EVERY_BYTES) {
        told = source.offset;
        onRead(told, ofBytes);
      }
      yield frame;
    }
  } catch (cause) {
    if (cause instanceof VnicError || (cause as NodeJS.ErrnoException).syscall !== 'read') throw cause;
    throw new VnicError('failed', `${path}: cannot be read: ${(cause as Error).message}`, {
      remedy: 'give the path of a pcap or pcapng file',
      cause,
    });
  } finally {
    closeSync(fd);
  }
}

/** The same over a capture in memory; `file` is its name in messages. */
export function readCaptureBytes(bytes: Uint8Array, file: string): Generator<CapturedFrame> {
  return readSource(bytesSource(bytes), file);
}
