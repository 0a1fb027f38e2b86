// SPDX-License-Identifier: Apache-2.0
/** What the capture readers deliver, and the error they end with. */

import { VnicError } from '../errors.ts';
import { toEthernet } from './link-types.ts';

export interface CapturedFrame {
  /** Since the epoch of the capture's clock, normally 1970. A block without a time has that of the packet before it. */
  timeNs: bigint;
  /** Length on the wire as the capture states it, although the capture may hold less. */
  wireBytes: number;
  /** As in the capture, never longer than `wireBytes`. A view: copy it to keep it. */
  data: Uint8Array;
  /** LINKTYPE_ number (https://www.tcpdump.org/linktypes.html). */
  linkType: number;
  /** Number of the interface within its pcapng section; 0 in a pcap file. */
  interfaceId: number;
  /** The same packet behind an Ethernet header; `data` itself if it is Ethernet already. */
  ethernet: Uint8Array;
  /** How much longer `ethernet` is than `data`; the same for every frame of one link type, may be negative. */
  addedBytes: number;
}

/**
 * Longest packet that is believed. libpcap and Wireshark draw the line at the same place: a longer one
 * is a damaged length.
 */
export const maxPacketBytes = 262_144;

export interface FrameFields {
  timeNs: bigint;
  wireBytes: number;
  data: Uint8Array;
  linkType: number;
  interfaceId: number;
  littleEndian: boolean;
}

/** Throws invalid_capture for a link type that has no Ethernet equivalent. */
export function capturedFrame(file: string, fields: FrameFields): CapturedFrame {
  const { timeNs, wireBytes, linkType, interfaceId, littleEndian } = fields;
  // A packet cannot hold more than it had on the wire; Wireshark cuts it the same way.
  const data = fields.data.length > wireBytes ? fields.data.subarray(0, wireBytes) : fields.data;
  const { ethernet, addedBytes } = toEthernet(file, linkType, data, littleEndian);
  return { timeNs, wireBytes, data, linkType, interfaceId, ethernet, addedBytes };
}

/** The file is wrong at this byte; what stood before it has been delivered. */
export function damaged(file: string, offset: number, what: string): VnicError {
  return new VnicError('invalid_capture', `${file}: damaged at byte ${offset}: ${what}`, {
    remedy: 'the packets before that byte can be read; copy the file again or capture again to have the rest',
    details: { file, offset },
  });
}

export function readU16(bytes: Uint8Array, at: number, littleEndian: boolean): number {
  const a = bytes[at]!;
  const b = bytes[at + 1]!;
  return littleEndian ? a | (b << 8) : (a << 8) | b;
}

export function readU32(bytes: Uint8Array, at: number, littleEndian: boolean): number {
  const first = readU16(bytes, at, littleEndian);
  const second = readU16(bytes, at + 2, littleEndian);
  return (littleEndian ? first | (second << 16) : (first << 16) | second) >>> 0;
}
