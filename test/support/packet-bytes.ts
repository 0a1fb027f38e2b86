// SPDX-License-Identifier: Apache-2.0
/** Addresses, checksums and byte order for the packet builder. */

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

export function u16(value: number): Uint8Array {
  return Uint8Array.of((value >> 8) & 0xff, value & 0xff);
}

export function u32(value: number): Uint8Array {
  return Uint8Array.of((value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes.set(u16(value), at);
}

export function getU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

export function macBytes(text: string): Uint8Array {
  return Uint8Array.from(text.split(':'), (part) => Number.parseInt(part, 16));
}

export function ipv4Bytes(text: string): Uint8Array {
  return Uint8Array.from(text.split('.'), Number);
}

/** Hexadecimal groups with at most one `::`; no dotted tail. */
export function ipv6Bytes(text: string): Uint8Array {
  const groups = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16));
  const [head = '', tail] = text.split('::');
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeros = new Uint8Array(2 * (8 - before.length - after.length));
  return concat(...before.map(u16), zeros, ...after.map(u16));
}

/** IPv4 as v4-mapped, so that both families have 16 bytes. */
export function addressBytes(text: string): Uint8Array {
  if (text.includes(':')) return ipv6Bytes(text);
  return concat(new Uint8Array(10), Uint8Array.of(0xff, 0xff), ipv4Bytes(text));
}

/** The Internet checksum (RFC 1071). */
export function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at]! << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** CRC-32C as SCTP carries it (RFC 9260, appendix A): little-endian in the packet. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}

/** Bytes that are the same each time and do not look like a header. */
export function filler(count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, index) => (index * 7 + 0xa5) & 0xff);
}
