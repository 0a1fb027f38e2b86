// SPDX-License-Identifier: Apache-2.0
/** Reader of pcap files (draft-ietf-opsawg-pcap). */

import { VnicError } from '../errors.ts';
import type { ByteSource } from './byte-source.ts';
import { type CapturedFrame, capturedFrame, damaged, maxPacketBytes, readU16, readU32 } from './frame.ts';
import { isConvertible, unsupportedLinkType } from './link-types.ts';

const fileHeaderBytes = 24;
const recordHeaderBytes = 16;
const nsPerSecond = 1_000_000_000n;

export interface PcapFormat {
  littleEndian: boolean;
  /** Unit of the fraction of a second. */
  fractionNs: bigint;
}

const magicMicroseconds = 0xa1b2c3d4;
const magicNanoseconds = 0xa1b23c4d;

/** Null if these are not the first bytes of a pcap file. */
export function pcapFormat(magic: Uint8Array): PcapFormat | null {
  for (const littleEndian of [true, false]) {
    const value = readU32(magic, 0, littleEndian);
    if (value === magicMicroseconds) return { littleEndian, fractionNs: 1000n };
    if (value === magicNanoseconds) return { littleEndian, fractionNs: 1n };
  }
  return null;
}

function readFileHeader(source: ByteSource, file: string, littleEndian: boolean): number {
  const header = source.take(fileHeaderBytes);
  if (header.length < fileHeaderBytes) {
    throw damaged(file, 0, `the pcap file header is cut short (${header.length} of ${fileHeaderBytes} bytes)`);
  }
  const version = `${readU16(header, 4, littleEndian)}.${readU16(header, 6, littleEndian)}`;
  if (version !== '2.4') {
    throw new VnicError('invalid_capture', `${file}: pcap version ${version} cannot be read, only 2.4`, {
      remedy: 'convert it with editcap (Wireshark): editcap -F pcap FILE NEWFILE',
      details: { file, offset: 4 },
    });
  }
  // The upper half holds the length of the frame check sequence.
  return readU32(header, 20, littleEndian) & 0xffff;
}

/** `source` stands at the start of the file. Ends with invalid_capture where the file is damaged. */
export function* readPcap(source: ByteSource, file: string, format: PcapFormat): Generator<CapturedFrame> {
  const { littleEndian, fractionNs } = format;
  const linkType = readFileHeader(source, file, littleEndian);
  if (!isConvertible(linkType)) throw unsupportedLinkType(file, linkType);
  for (;;) {
    const offset = source.offset;
    const header = source.take(recordHeaderBytes);
    if (header.length === 0) return;
    if (header.length < recordHeaderBytes) {
      throw damaged(file, offset, `a packet header is cut short (${header.length} of ${recordHeaderBytes} bytes)`);
    }
    const capturedBytes = readU32(header, 8, littleEndian);
    const wireBytes = readU32(header, 12, littleEndian);
    if (capturedBytes > maxPacketBytes) {
      throw damaged(file, offset, `a packet claims ${capturedBytes} captured bytes, more than ${maxPacketBytes}`);
    }
    const data = source.take(capturedBytes);
    if (data.length < capturedBytes) {
      throw damaged(file, offset, `a packet is cut short (${data.length} of ${capturedBytes} bytes)`);
    }
    const seconds = BigInt(readU32(header, 0, littleEndian));
    const fraction = BigInt(readU32(header, 4, littleEndian));
    const timeNs = seconds * nsPerSecond + fraction * fractionNs;
    yield capturedFrame(file, { timeNs, wireBytes, data, linkType, interfaceId: 0, littleEndian });
  }
}
