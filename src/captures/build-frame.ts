// SPDX-License-Identifier: Apache-2.0
/** Frames to ask about: Ethernet, IPv4 or IPv6, and the header of the protocol, with right lengths and checksums. Pure. */
import { VnicError } from '../errors.ts';

export interface FrameSpec {
  /** 16 bytes, IPv4 as v4-mapped; both of one family. */
  src: Uint8Array;
  dst: Uint8Array;
  /** Ports of TCP, UDP, SCTP, DCCP and UDP-Lite; others have none. */
  srcPort: number;
  dstPort: number;
  /** IP protocol number. */
  proto: number;
  /** Bytes of the whole frame; absent: just the headers. */
  frameBytes?: number;
}

const ETHERNET_BYTES = 14;
const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const HOP_LIMIT = 64;
/** What an IPv4 total length can say. */
const MAX_IP_BYTES = 65_535;

/** Bytes of each protocol's header; ports stand at its start (RFC 9293, 768, 9260, 4340, 3828). */
const portHeaderBytes: ReadonlyMap<number, number> = new Map([
  [6, 20],
  [17, 8],
  [33, 16],
  [132, 12],
  [136, 8],
]);
/** ICMP, ICMPv6: type and code, checksum, identifier, sequence number. */
const OTHER_HEADER_BYTES = 8;
const ICMP_ECHO_REQUEST = 8;
const ICMPV6_ECHO_REQUEST = 128;

const mappedPrefix = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

function isIpv4(address: Uint8Array): boolean {
  return mappedPrefix.every((byte, index) => address[index] === byte);
}

/** Throws `usage` for addresses of two families and for lengths that do not hold the headers. */
export function buildFrame(spec: FrameSpec): Uint8Array<ArrayBuffer> {
  const ipv4 = isIpv4(spec.src);
  if (ipv4 !== isIpv4(spec.dst)) {
    throw new VnicError('usage', 'Source and destination are of different address families.', {
      remedy: 'Give two IPv4 or two IPv6 addresses.',
    });
  }
  const ipBytes = ipv4 ? IPV4_BYTES : IPV6_BYTES;
  const l4Bytes = portHeaderBytes.get(spec.proto) ?? OTHER_HEADER_BYTES;
  const least = ETHERNET_BYTES + ipBytes + l4Bytes;
  const frameBytes = spec.frameBytes ?? least;
  if (frameBytes < least || frameBytes - ETHERNET_BYTES > MAX_IP_BYTES) {
    throw new VnicError('usage', `A frame of ${frameBytes} bytes cannot carry this packet.`, {
      remedy: `Give ${least} to ${MAX_IP_BYTES + ETHERNET_BYTES} bytes.`,
    });
  }
  const frame = new Uint8Array(frameBytes);
  const view = new DataView(frame.buffer);
  // Addresses that no device has: locally administered.
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
  view.setUint16(12, ipv4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
  const payloadBytes = frameBytes - ETHERNET_BYTES - ipBytes;
  if (ipv4) writeIpv4(view, frame, spec, payloadBytes);
  else writeIpv6(view, frame, spec, payloadBytes);
  writeL4(view, ETHERNET_BYTES + ipBytes, spec, payloadBytes, ipv4);
  return frame;
}

/** RFC 791, 3.1. */
function writeIpv4(view: DataView, frame: Uint8Array, { src, dst, proto }: FrameSpec, payloadBytes: number): void {
  const at = ETHERNET_BYTES;
  view.setUint8(at, 0x45);
  view.setUint16(at + 2, IPV4_BYTES + payloadBytes);
  view.setUint8(at + 8, HOP_LIMIT);
  view.setUint8(at + 9, proto);
  frame.set(src.subarray(12), at + 12);
  frame.set(dst.subarray(12), at + 16);
  let sum = 0;
  for (let offset = 0; offset < IPV4_BYTES; offset += 2) sum += view.getUint16(at + offset);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(at + 10, ~sum & 0xffff);
}

/** RFC 8200, 3. */
function writeIpv6(view: DataView, frame: Uint8Array, { src, dst, proto }: FrameSpec, payloadBytes: number): void {
  const at = ETHERNET_BYTES;
  view.setUint8(at, 0x60);
  view.setUint16(at + 4, payloadBytes);
  view.setUint8(at + 6, proto);
  view.setUint8(at + 7, HOP_LIMIT);
  frame.set(src, at + 8);
  frame.set(dst, at + 24);
}

function writeL4(view: DataView, at: number, spec: FrameSpec, payloadBytes: number, ipv4: boolean): void {
  const { proto, srcPort, dstPort } = spec;
  if (!portHeaderBytes.has(proto)) {
    if (proto === 1 || proto === 58) view.setUint8(at, ipv4 ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST);
    return;
  }
  view.setUint16(at, srcPort);
  view.setUint16(at + 2, dstPort);
  if (proto === 6) {
    // Data offset in words, then the flag SYN.
    view.setUint8(at + 12, 5 << 4);
    view.setUint8(at + 13, 2);
  }
  if (proto === 17 || proto === 136) view.setUint16(at + 4, payloadBytes);
}
