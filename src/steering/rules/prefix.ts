// SPDX-License-Identifier: Apache-2.0
/**
 * Address prefixes. An IPv4 prefix p/n is the v4-mapped IPv6 prefix ::ffff:p/(n+96) (RFC 4291, section 2.5.5.2), so
 * one table serves both families: 0.0.0.0/0 is "any IPv4 address".
 */
import { VnicError } from '../../errors.ts';
import { formatIpv4, formatIpv6, parseIpv6, readIpv4 } from './address-text.ts';

export interface Prefix {
  /** 16 bytes, network order, IPv4 as v4-mapped; every bit beyond `bits` is 0. */
  readonly address: Uint8Array;
  /** 0 to 128, counted in the 16-byte address: 96 more than written for IPv4. */
  readonly bits: number;
}

const V4_MAPPED_BITS = 96;
const allIpv4: Prefix = { address: v4Mapped(), bits: V4_MAPPED_BITS };
const example = 'Write a prefix such as 10.1.0.0/16 or fd00:a::/32, or an address for one host.';

/** 16 bytes of an address in text form, IPv4 as v4-mapped. Throws invalid_rule. */
export function parseAddress(text: string): Uint8Array {
  const address = text.includes(':') ? parseIpv6(text) : parseIpv4(text);
  if (address !== undefined) return address;
  throw new VnicError('invalid_rule', `"${text}" is not an IPv4 or IPv6 address`, { remedy: example });
}

function parseIpv4(text: string): Uint8Array | undefined {
  const address = v4Mapped();
  return readIpv4(text, address, 12) ? address : undefined;
}

/** A prefix in text form; a bare address is a host prefix. Throws invalid_rule. */
export function parsePrefix(text: string): Prefix {
  const slash = text.indexOf('/');
  const addressText = slash < 0 ? text : text.slice(0, slash);
  const address = parseAddress(addressText);
  const writtenAsIpv4 = !addressText.includes(':');
  const maxLength = writtenAsIpv4 ? 32 : 128;
  const length = slash < 0 ? maxLength : parseLength(text, slash + 1);
  if (length > maxLength) {
    throw new VnicError('invalid_rule', `"${text}" has no prefix length from 0 to ${maxLength}`, { remedy: example });
  }
  const bits = writtenAsIpv4 ? V4_MAPPED_BITS + length : length;
  if (hasBitsBeyond(address, bits)) {
    throw new VnicError('invalid_rule', `"${text}" has host bits set beyond its prefix length`, {
      remedy:
        `Write ${formatPrefix(makePrefix(address, bits))} for the network ` +
        `or ${formatPrefix(makePrefix(address, 128))} for the host.`,
    });
  }
  return { address, bits };
}

/** One to three digits up to the end of the text; Infinity for anything else. */
function parseLength(text: string, start: number): number {
  if (start === text.length || text.length - start > 3) return Number.POSITIVE_INFINITY;
  let length = 0;
  for (let index = start; index < text.length; index++) {
    const digit = text.charCodeAt(index) - 0x30;
    if (!(digit >= 0 && digit <= 9)) return Number.POSITIVE_INFINITY;
    length = length * 10 + digit;
  }
  return length;
}

function hasBitsBeyond(address: Uint8Array, bits: number): boolean {
  const first = bits >> 3;
  if (first < 16 && (address[first]! & (0xff >> (bits & 7))) !== 0) return true;
  for (let index = first + 1; index < 16; index++) {
    if (address[index] !== 0) return true;
  }
  return false;
}

/** The prefix of an address; bits beyond `bits` are cleared. */
export function makePrefix(address: Uint8Array, bits: number): Prefix {
  const mask = prefixMask(bits);
  return { address: address.map((byte, index) => byte & (mask[index] ?? 0)), bits };
}

/** 16 bytes with the first `bits` bits set. */
export function prefixMask(bits: number): Uint8Array {
  const mask = new Uint8Array(16);
  for (let index = 0; index < 16; index++) {
    const bitsHere = Math.min(8, Math.max(0, bits - index * 8));
    mask[index] = (0xff << (8 - bitsHere)) & 0xff;
  }
  return mask;
}

/** Canonical text with its length: 10.1.0.0/16, fd00:a::/32 (RFC 5952). */
export function formatPrefix(prefix: Prefix): string {
  const length = familyOf(prefix) === 4 ? prefix.bits - V4_MAPPED_BITS : prefix.bits;
  return `${formatAddress(prefix.address, familyOf(prefix))}/${length}`;
}

/** Canonical text of a 16-byte address; v4-mapped addresses as IPv4 unless `family` says otherwise. */
export function formatAddress(address: Uint8Array, family: 4 | 6 = isV4Mapped(address) ? 4 : 6): string {
  return family === 4 ? formatIpv4(address) : formatIpv6(address);
}

export function familyOf(prefix: Prefix): 4 | 6 {
  return prefix.bits >= V4_MAPPED_BITS && isV4Mapped(prefix.address) ? 4 : 6;
}

/** True for an IPv6 prefix so short that every v4-mapped address is inside it, such as ::/0. */
export function coversAllIpv4(prefix: Prefix): boolean {
  return prefix.bits < V4_MAPPED_BITS && contains(prefix, allIpv4);
}

export function contains(outer: Prefix, inner: Prefix): boolean {
  return inner.bits >= outer.bits && sameBits(outer.address, inner.address, outer.bits);
}

/** Two prefixes overlap exactly if one contains the other. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  return contains(a, b) || contains(b, a);
}

export function samePrefix(a: Prefix, b: Prefix): boolean {
  return a.bits === b.bits && sameBits(a.address, b.address, 128);
}

/** Whether the first `bits` bits of two addresses are the same. */
function sameBits(a: Uint8Array, b: Uint8Array, bits: number): boolean {
  const whole = bits >> 3;
  for (let index = 0; index < whole; index++) {
    if (a[index] !== b[index]) return false;
  }
  return whole === 16 || ((a[whole]! ^ b[whole]!) & (0xff00 >> (bits & 7)) & 0xff) === 0;
}

/** ::ffff:0.0.0.0 */
function v4Mapped(): Uint8Array {
  const address = new Uint8Array(16);
  address[10] = 0xff;
  address[11] = 0xff;
  return address;
}

function isV4Mapped(address: Uint8Array): boolean {
  for (let index = 0; index < 10; index++) {
    if (address[index] !== 0) return false;
  }
  return address[10] === 0xff && address[11] === 0xff;
}
