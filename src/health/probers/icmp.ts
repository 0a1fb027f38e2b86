// SPDX-License-Identifier: Apache-2.0
/** ICMP echo (RFC 792, RFC 4443) as bytes. Pure. */
import { hostLittleEndian } from '../../maps/codec.ts';
import { Libc } from '../../maps/generated/host.ts';
import type { Family } from './sockets.ts';

export const ECHO_HEADER_BYTES = 8;

/** linux/socket.h */
const AF_INET6 = 10;

const echo = {
  4: { protocol: 1, request: 8, reply: 0 },
  6: { protocol: 58, request: 128, reply: 129 },
} as const;

export function icmpProtocol(family: Family): number {
  return echo[family].protocol;
}

/** The kernel makes the checksum of ICMPv6, and of anything sent over a ping socket. */
export function echoRequest(family: Family, identifier: number, payload: Uint8Array): Buffer {
  const packet = Buffer.alloc(ECHO_HEADER_BYTES + payload.length);
  packet[0] = echo[family].request;
  packet.writeUInt16BE(identifier, 4);
  packet.writeUInt16BE(1, 6);
  packet.set(payload, ECHO_HEADER_BYTES);
  packet.writeUInt16BE(internetChecksum(packet), 2);
  return packet;
}

/** Whether it answers the request with this payload. The identifier is not looked at: a ping socket has its own. */
export function isEchoReply(family: Family, message: Buffer, payload: Buffer): boolean {
  return message[0] === echo[family].reply && message[1] === 0 && message.subarray(ECHO_HEADER_BYTES).equals(payload);
}

/** RFC 1071; of an even number of bytes. */
export function internetChecksum(bytes: Buffer): number {
  let sum = 0;
  for (let offset = 0; offset < bytes.length; offset += 2) sum += bytes.readUInt16BE(offset);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** `struct sockaddr_in` (16 bytes) or `sockaddr_in6` (28 bytes), port 0. @param address 16 bytes, IPv4 as v4-mapped */
export function socketAddress(family: Family, address: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(family === 4 ? 16 : 28);
  new DataView(bytes.buffer).setUint16(0, family === 4 ? Libc.afInet : AF_INET6, hostLittleEndian);
  bytes.set(family === 4 ? address.subarray(12) : address, family === 4 ? 4 : 8);
  return bytes;
}
