// SPDX-License-Identifier: Apache-2.0
/** Reader of pcapng files (draft-ietf-opsawg-pcapng). */

import { VnicError } from '../errors.ts';
import type { ByteSource } from './byte-source.ts';
import { type CapturedFrame, capturedFrame, damaged, maxPacketBytes, readU16, readU32 } from './frame.ts';

export const blockTypes = {
  sectionHeader: 0x0a0d0d0a,
  interfaceDescription: 1,
  /** Obsolete, still written by old tools. */
  packet: 2,
  simplePacket: 3,
  enhancedPacket: 6,
} as const;

export const byteOrderMagic = 0x1a2b3c4d;

const blockHeaderBytes = 8;
const trailerBytes = 4;
const optionTimeResolution = 9;
const optionTimeOffset = 14;
const nsPerSecond = 1_000_000_000n;

/** Blocks that are read whole; Wireshark has the same limit. Other blocks may be longer: they are skipped. */
const maxBlockBytes = 1 << 24;

interface Interface {
  linkType: number;
  /** 0: no limit. */
  snaplenBytes: number;
  toNs(timestamp: bigint): bigint;
}

interface Block {
  type: number;
  offset: number;
  body: Uint8Array;
}

interface PacketFields {
  interfaceId: number;
  /** Null: the block has none. */
  timestamp: bigint | null;
  capturedBytes: number;
  wireBytes: number;
  dataAt: number;
}

/** Nanoseconds of one timestamp, from if_tsresol (powers of ten, or of two with the top bit) and if_tsoffset (s). */
function clock(resolution: number, offsetSeconds: bigint): (timestamp: bigint) => bigint {
  const exponent = BigInt(resolution & 0x7f);
  const perSecond = (resolution & 0x80) === 0 ? 10n ** exponent : 2n ** exponent;
  const offsetNs = offsetSeconds * nsPerSecond;
  return (timestamp) => (timestamp * nsPerSecond) / perSecond + offsetNs;
}

/** Reads the blocks of one file; knows the byte order and the interfaces of the section it is in. */
class PcapngReader {
  readonly #source: ByteSource;
  readonly #file: string;
  #littleEndian = true;
  #interfaces: Interface[] = [];
  #lastTimeNs = 0n;

  constructor(source: ByteSource, file: string) {
    this.#source = source;
    this.#file = file;
  }

  *frames(): Generator<CapturedFrame> {
    for (;;) {
      const block = this.#nextBlock();
      if (block === null) return;
      switch (block.type) {
        case blockTypes.sectionHeader:
          this.#startSection(block);
          break;
        case blockTypes.interfaceDescription:
          this.#addInterface(block);
          break;
        case blockTypes.enhancedPacket:
          yield this.#frame(block, this.#enhancedPacket(block));
          break;
        case blockTypes.packet:
          yield this.#frame(block, this.#oldPacket(block));
          break;
        case blockTypes.simplePacket:
          yield this.#frame(block, this.#simplePacket(block));
          break;
        default:
          break;
      }
    }
  }

  /** The next block whose end has been seen; the body of a block of unknown type is empty. */
  #nextBlock(): Block | null {
    const source = this.#source;
    const offset = source.offset;
    const head = source.peek(blockHeaderBytes + 4);
    if (head.length === 0) return null;
    if (head.length < blockHeaderBytes + 4) {
      throw damaged(this.#file, offset, `a block header is cut short (${head.length} of 12 bytes)`);
    }
    const type = readU32(head, 0, this.#littleEndian);
    if (type === blockTypes.sectionHeader) this.#takeByteOrder(head, offset);
    const totalBytes = readU32(head, 4, this.#littleEndian);
    if (totalBytes < blockHeaderBytes + trailerBytes || totalBytes % 4 !== 0) {
      throw damaged(this.#file, offset, `a block length of ${totalBytes} is not a multiple of 4 of at least 12`);
    }
    const known = (Object.values(blockTypes) as number[]).includes(type);
    if (known && totalBytes > maxBlockBytes) {
      throw damaged(this.#file, offset, `a block claims ${totalBytes} bytes, more than ${maxBlockBytes}`);
    }
    source.skip(blockHeaderBytes);
    const bodyBytes = totalBytes - blockHeaderBytes - trailerBytes;
    const body = known ? source.take(bodyBytes) : new Uint8Array(0);
    const bodyRead = known ? body.length : source.skip(bodyBytes);
    const trailer = source.take(trailerBytes);
    if (trailer.length < trailerBytes) {
      const read = blockHeaderBytes + bodyRead + trailer.length;
      throw damaged(this.#file, offset, `a block is cut short (${read} of ${totalBytes} bytes)`);
    }
    const repeated = readU32(trailer, 0, this.#littleEndian);
    if (repeated !== totalBytes) {
      throw damaged(this.#file, offset, `a block says ${totalBytes} bytes at its start and ${repeated} at its end`);
    }
    return { type, offset, body };
  }

  #takeByteOrder(head: Uint8Array, offset: number): void {
    if (readU32(head, 8, true) === byteOrderMagic) this.#littleEndian = true;
    else if (readU32(head, 8, false) === byteOrderMagic) this.#littleEndian = false;
    else throw damaged(this.#file, offset, 'a section header has no byte-order magic');
  }

  #startSection(block: Block): void {
    this.#need(block, 16, 'section header');
    const major = readU16(block.body, 4, this.#littleEndian);
    const minor = readU16(block.body, 6, this.#littleEndian);
    if (major !== 1) {
      throw new VnicError('invalid_capture', `${this.#file}: pcapng version ${major}.${minor} cannot be read, only 1`, {
        remedy: 'convert it with the tool that wrote it',
        details: { file: this.#file, offset: block.offset },
      });
    }
    this.#interfaces = [];
  }

  #addInterface(block: Block): void {
    this.#need(block, 8, 'interface description');
    const { body } = block;
    const littleEndian = this.#littleEndian;
    let resolution = 6;
    let offsetSeconds = 0n;
    for (const { code, value } of this.#options(body.subarray(8))) {
      if (code === optionTimeResolution && value.length >= 1) resolution = value[0]!;
      if (code === optionTimeOffset && value.length >= 8) {
        const view = new DataView(value.buffer, value.byteOffset, 8);
        offsetSeconds = view.getBigInt64(0, littleEndian);
      }
    }
    this.#interfaces.push({
      linkType: readU16(body, 0, littleEndian),
      snaplenBytes: readU32(body, 4, littleEndian),
      toNs: clock(resolution, offsetSeconds),
    });
  }

  /** Ends quietly at an option that does not fit: options are optional. */
  *#options(bytes: Uint8Array): Generator<{ code: number; value: Uint8Array }> {
    let at = 0;
    while (at + 4 <= bytes.length) {
      const code = readU16(bytes, at, this.#littleEndian);
      const length = readU16(bytes, at + 2, this.#littleEndian);
      if (code === 0 || at + 4 + length > bytes.length) return;
      yield { code, value: bytes.subarray(at + 4, at + 4 + length) };
      at += 4 + length + (-length & 3);
    }
  }

  #timestamp(body: Uint8Array, at: number): bigint {
    return (BigInt(readU32(body, at, this.#littleEndian)) << 32n) | BigInt(readU32(body, at + 4, this.#littleEndian));
  }

  #enhancedPacket(block: Block): PacketFields {
    this.#need(block, 20, 'enhanced packet');
    return {
      interfaceId: readU32(block.body, 0, this.#littleEndian),
      timestamp: this.#timestamp(block.body, 4),
      capturedBytes: readU32(block.body, 12, this.#littleEndian),
      wireBytes: readU32(block.body, 16, this.#littleEndian),
      dataAt: 20,
    };
  }

  #oldPacket(block: Block): PacketFields {
    return { ...this.#enhancedPacket(block), interfaceId: readU16(block.body, 0, this.#littleEndian) };
  }

  /** Always of interface 0; cut at that interface's snaplen, without saying so. */
  #simplePacket(block: Block): PacketFields {
    this.#need(block, 4, 'simple packet');
    const wireBytes = readU32(block.body, 0, this.#littleEndian);
    const snaplenBytes = this.#interfaces[0]?.snaplenBytes ?? 0;
    const capturedBytes = snaplenBytes === 0 ? wireBytes : Math.min(wireBytes, snaplenBytes);
    return { interfaceId: 0, timestamp: null, capturedBytes, wireBytes, dataAt: 4 };
  }

  #frame(block: Block, packet: PacketFields): CapturedFrame {
    const { interfaceId, timestamp, capturedBytes, wireBytes, dataAt } = packet;
    const from = this.#interfaces[interfaceId];
    if (from === undefined) {
      throw damaged(this.#file, block.offset, `a packet is of interface ${interfaceId}, which was not described`);
    }
    if (capturedBytes > maxPacketBytes) {
      const what = `a packet claims ${capturedBytes} captured bytes, more than ${maxPacketBytes}`;
      throw damaged(this.#file, block.offset, what);
    }
    if (dataAt + capturedBytes > block.body.length) {
      const what = `a packet claims ${capturedBytes} captured bytes, its block has ${block.body.length - dataAt}`;
      throw damaged(this.#file, block.offset, what);
    }
    if (timestamp !== null) this.#lastTimeNs = from.toNs(timestamp);
    return capturedFrame(this.#file, {
      timeNs: this.#lastTimeNs,
      wireBytes,
      data: block.body.subarray(dataAt, dataAt + capturedBytes),
      linkType: from.linkType,
      interfaceId,
      littleEndian: this.#littleEndian,
    });
  }

  #need(block: Block, bytes: number, name: string): void {
    if (block.body.length >= bytes) return;
    throw damaged(this.#file, block.offset, `the ${name} block has ${block.body.length} of at least ${bytes} bytes`);
  }
}

/** `source` stands at the start of the file. Ends with invalid_capture where the file is damaged. */
export function readPcapng(source: ByteSource, file: string): Generator<CapturedFrame> {
  return new PcapngReader(source, file).frames();
}
