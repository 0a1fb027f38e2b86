// SPDX-License-Identifier: Apache-2.0
/** Writers of pcapng (draft-ietf-opsawg-pcapng) and pcap (draft-ietf-opsawg-pcap) files. */

import { closeSync, openSync, writeSync } from 'node:fs';
import { VnicError } from '../errors.ts';
import { linkTypes } from './link-types.ts';
import { blockTypes, byteOrderMagic } from './pcapng.ts';

export interface FrameToWrite {
  timeNs: bigint;
  data: Uint8Array;
  /** Length on the wire; default: all of it is in `data`. */
  wireBytes?: number;
  /** Index in the interfaces of the file; default 0. */
  interfaceId?: number;
  options?: readonly BlockOption[];
}

/** An option of a block: its code and value. */
export interface BlockOption {
  code: number;
  value: Uint8Array;
}

export interface InterfaceToWrite {
  name?: string;
  /** LINKTYPE_ number; default Ethernet. */
  linkType?: number;
  /** 0 (default): no limit. */
  snaplenBytes?: number;
}

export interface PcapOptions {
  linkType?: number;
  snaplenBytes?: number;
  resolution?: 'microseconds' | 'nanoseconds';
  byteOrder?: 'little' | 'big';
}

const nsPerSecond = 1_000_000_000n;
const defaultSnaplenBytes = 262_144;
const interfaceStatistics = 5;
const optionReceived = 4;
const optionDropped = 5;
const optionInterfaceName = 2;
const optionTimeResolution = 9;
/** Power of ten: nanoseconds. */
const nanosecondResolution = 9;

const padding = (length: number): number => -length & 3;

function block(type: number, bodyBytes: number, fill: (view: DataView, bytes: Uint8Array) => void): Uint8Array {
  const totalBytes = 12 + bodyBytes + padding(bodyBytes);
  const bytes = new Uint8Array(totalBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, totalBytes, true);
  view.setUint32(totalBytes - 4, totalBytes, true);
  fill(new DataView(bytes.buffer, 8), bytes.subarray(8));
  return bytes;
}

/** First block of a pcapng file. */
export function encodeSectionHeader(): Uint8Array {
  return block(blockTypes.sectionHeader, 16, (view) => {
    view.setUint32(0, byteOrderMagic, true);
    view.setUint16(4, 1, true);
    view.setUint16(6, 0, true);
    view.setBigInt64(8, -1n, true); // length of the section: not given
  });
}

/** Times of the interface's packets are in nanoseconds. */
export function encodeInterface(options: InterfaceToWrite = {}): Uint8Array {
  const name = new TextEncoder().encode(options.name ?? '');
  const nameBytes = name.length === 0 ? 0 : 4 + name.length + padding(name.length);
  return block(blockTypes.interfaceDescription, 8 + nameBytes + 12, (view, bytes) => {
    view.setUint16(0, options.linkType ?? linkTypes.ethernet, true);
    view.setUint32(4, options.snaplenBytes ?? 0, true);
    if (nameBytes > 0) {
      view.setUint16(8, optionInterfaceName, true);
      view.setUint16(10, name.length, true);
      bytes.set(name, 12);
    }
    const resolutionAt = 8 + nameBytes;
    view.setUint16(resolutionAt, optionTimeResolution, true);
    view.setUint16(resolutionAt + 2, 1, true);
    view.setUint8(resolutionAt + 4, nanosecondResolution);
  });
}

/** Options, padded each, with their end; nothing where there are none. */
function encodeOptions(options: readonly BlockOption[]): Uint8Array {
  if (options.length === 0) return new Uint8Array(0);
  const length = options.reduce((sum, { value }) => sum + 4 + value.length + padding(value.length), 4);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { code, value } of options) {
    view.setUint16(at, code, true);
    view.setUint16(at + 2, value.length, true);
    bytes.set(value, at + 4);
    at += 4 + value.length + padding(value.length);
  }
  return bytes;
}

/** One packet, as an enhanced packet block. */
export function encodePacket(frame: FrameToWrite): Uint8Array {
  const { data, timeNs } = frame;
  const options = encodeOptions(frame.options ?? []);
  const optionsAt = 20 + data.length + padding(data.length);
  return block(blockTypes.enhancedPacket, optionsAt + options.length, (view, bytes) => {
    view.setUint32(0, frame.interfaceId ?? 0, true);
    view.setUint32(4, Number(BigInt.asUintN(32, timeNs >> 32n)), true);
    view.setUint32(8, Number(BigInt.asUintN(32, timeNs)), true);
    view.setUint32(12, data.length, true);
    view.setUint32(16, frame.wireBytes ?? data.length, true);
    bytes.set(data, 20);
    bytes.set(options, optionsAt);
  });
}

/** What an interface received and did not get into the file, at the end of a capture. */
export function encodeInterfaceStatistics(timeNs: bigint, received: bigint, dropped: bigint): Uint8Array {
  const options = encodeOptions(
    (
      [
        [optionReceived, received],
        [optionDropped, dropped],
      ] as const
    ).map(([code, value]) => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, value, true);
      return { code, value: bytes };
    }),
  );
  return block(interfaceStatistics, 12 + options.length, (view, bytes) => {
    view.setUint32(4, Number(BigInt.asUintN(32, timeNs >> 32n)), true);
    view.setUint32(8, Number(BigInt.asUintN(32, timeNs)), true);
    bytes.set(options, 12);
  });
}

/** A pcapng file, piece by piece. Without interfaces: one of Ethernet. */
export function* encodePcapng(
  frames: Iterable<FrameToWrite>,
  interfaces: readonly InterfaceToWrite[] = [{}],
): Generator<Uint8Array> {
  yield encodeSectionHeader();
  for (const description of interfaces) yield encodeInterface(description);
  for (const frame of frames) yield encodePacket(frame);
}

/** A pcap file, piece by piece. Times beyond 32 bits of seconds wrap. */
export function* encodePcap(frames: Iterable<FrameToWrite>, options: PcapOptions = {}): Generator<Uint8Array> {
  const little = options.byteOrder !== 'big';
  const fractionNs = options.resolution === 'microseconds' ? 1000n : 1n;
  const header = new Uint8Array(24);
  const view = new DataView(header.buffer);
  view.setUint32(0, fractionNs === 1n ? 0xa1b23c4d : 0xa1b2c3d4, little);
  view.setUint16(4, 2, little);
  view.setUint16(6, 4, little);
  view.setUint32(16, options.snaplenBytes ?? defaultSnaplenBytes, little);
  view.setUint32(20, options.linkType ?? linkTypes.ethernet, little);
  yield header;
  for (const { data, timeNs, wireBytes } of frames) {
    const record = new Uint8Array(16 + data.length);
    const fields = new DataView(record.buffer);
    fields.setUint32(0, Number(BigInt.asUintN(32, timeNs / nsPerSecond)), little);
    fields.setUint32(4, Number((timeNs % nsPerSecond) / fractionNs), little);
    fields.setUint32(8, data.length, little);
    fields.setUint32(12, wireBytes ?? data.length, little);
    record.set(data, 16);
    yield record;
  }
}

const writeBytes = 1 << 18;

/** Writes the pieces to a new file, replacing an old one. Throws `failed` if that is not possible. */
export function writePieces(path: string, pieces: Iterable<Uint8Array>): void {
  let fd: number | undefined;
  try {
    fd = openSync(path, 'w');
    let held: Uint8Array[] = [];
    let heldBytes = 0;
    for (const piece of pieces) {
      held.push(piece);
      heldBytes += piece.length;
      if (heldBytes >= writeBytes) {
        writeAll(fd, Buffer.concat(held));
        held = [];
        heldBytes = 0;
      }
    }
    writeAll(fd, Buffer.concat(held));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall === undefined) throw cause;
    throw new VnicError('failed', `${path}: cannot be written: ${(cause as Error).message}`, {
      remedy: 'check the folder, its permissions and the free space',
      cause,
    });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  let at = 0;
  while (at < bytes.length) at += writeSync(fd, bytes, at);
}

/** Writes a pcapng file. */
export function writeCapture(
  path: string,
  frames: Iterable<FrameToWrite>,
  interfaces: readonly InterfaceToWrite[] = [{}],
): void {
  writePieces(path, encodePcapng(frames, interfaces));
}

/** Writes a pcap file, in nanoseconds and little-endian unless told otherwise. */
export function writePcap(path: string, frames: Iterable<FrameToWrite>, options: PcapOptions = {}): void {
  writePieces(path, encodePcap(frames, options));
}
