// SPDX-License-Identifier: Apache-2.0
/**
 * pcapng blocks of both byte orders, right or wrong, written from the format's description and not with the
 * product's writer.
 */

import { concat } from './packet-bytes.ts';

export interface BlockFaults {
  /** Length at the start. */
  length?: number;
  /** Length at the end. */
  trailer?: number;
}

export class PcapngBlocks {
  readonly #little: boolean;

  constructor(byteOrder: 'little' | 'big') {
    this.#little = byteOrder === 'little';
  }

  u16(value: number): Uint8Array {
    const bytes = new Uint8Array(2);
    new DataView(bytes.buffer).setUint16(0, value, this.#little);
    return bytes;
  }

  u32(value: number): Uint8Array {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, this.#little);
    return bytes;
  }

  i64(value: bigint): Uint8Array {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigInt64(0, value, this.#little);
    return bytes;
  }

  block(type: number, body: Uint8Array, faults: BlockFaults = {}): Uint8Array {
    const padded = concat(body, new Uint8Array(-body.length & 3));
    const length = 12 + padded.length;
    return concat(this.u32(type), this.u32(faults.length ?? length), padded, this.u32(faults.trailer ?? length));
  }

  section(options: { major?: number; magic?: number } = {}): Uint8Array {
    const version = concat(this.u16(options.major ?? 1), this.u16(0));
    return this.block(0x0a0d0d0a, concat(this.u32(options.magic ?? 0x1a2b3c4d), version, this.i64(-1n)));
  }

  option(code: number, value: Uint8Array): Uint8Array {
    return concat(this.u16(code), this.u16(value.length), value, new Uint8Array(-value.length & 3));
  }

  interface(linkType: number, snaplen = 0, options: Uint8Array = new Uint8Array(0)): Uint8Array {
    return this.block(1, concat(this.u16(linkType), this.u16(0), this.u32(snaplen), options));
  }

  #timed(ticks: bigint): Uint8Array {
    return concat(this.u32(Number(ticks >> 32n)), this.u32(Number(ticks & 0xffffffffn)));
  }

  enhanced(id: number, ticks: bigint, data: Uint8Array, wireBytes = data.length, captured = data.length): Uint8Array {
    const head = concat(this.u32(id), this.#timed(ticks), this.u32(captured), this.u32(wireBytes));
    const comment = this.option(1, new TextEncoder().encode('seen'));
    return this.block(6, concat(head, data, new Uint8Array(-data.length & 3), comment, this.u32(0)));
  }

  simple(data: Uint8Array, wireBytes = data.length): Uint8Array {
    return this.block(3, concat(this.u32(wireBytes), data));
  }

  /** The obsolete packet block. */
  old(id: number, drops: number, ticks: bigint, data: Uint8Array, wireBytes = data.length): Uint8Array {
    const head = concat(this.u16(id), this.u16(drops), this.#timed(ticks));
    return this.block(2, concat(head, this.u32(data.length), this.u32(wireBytes), data));
  }
}
