// SPDX-License-Identifier: Apache-2.0
/**
 * Address prefixes. An IPv4 prefix p/n is the v4-mapped IPv6 prefix ::ffff:p/(n+96) (RFC 4291, section 2.5.5.2), so
 * one table serves both families: 0.0.0.0/0 is "any IPv4 address".
 */
import ipaddr from 'ipaddr.js';
import { VnicError } from '../../errors.ts';

export interface Prefix {
  /** 16 bytes, network order, IPv4 as v4-mapped; every bit beyond `bits` is 0. */
  readonly address: Uint8Array;
  /** 0 to 128, counted in the 16-byte address: 96 more than written for IPv4. */
  readonly bits: number;
}

const V4_MAPPED_BITS = 96;
const example = 'Write a prefix such as 10.1.0.0/16 or fd00:a::/32, or an address for one host.';

/** 16 bytes of an address in text form, IPv4 as v4-mapped. Throws invalid_rule. */
export function parseAddress(text: string): Uint8Array {
  const octets = text.includes(':') ? undefined : parseIpv4(text);
  if (octets !== undefined) return mapIpv4(octets);
  // A zone ("%eth0") is no part of what a packet carries.
  const ipv6 = text.includes(':') && !text.includes('%') ? parseIpv6(text) : undefined;
  if (ipv6 !== undefined) return ipv6;
  throw new VnicError('invalid_rule', `"${text}" is not an IPv4 or IPv6 address`, { remedy: example });
}

/** Short and octal forms ("10.1", "010.0.0.1") mean different things to different tools: refused. */
function parseIpv4(text: string): number[] | undefined {
  if (!/^(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}$/.test(text)) return undefined;
  const octets = text.split('.').map(Number);
  return octets.every((octet) => octet <= 255) ? octets : undefined;
}

function parseIpv6(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray());
  } catch {
    return undefined;
  }
}

/** A prefix in text form; a bare address is a host prefix. Throws invalid_rule. */
export function parsePrefix(text: string): Prefix {
  const slash = text.indexOf('/');
  const addressText = slash < 0 ? text : text.slice(0, slash);
  const address = parseAddress(addressText);
  const writtenAsIpv4 = !addressText.includes(':');
  const maxLength = writtenAsIpv4 ? 32 : 128;
  const lengthText = slash < 0 ? String(maxLength) : text.slice(slash + 1);
  const length = Number(lengthText);
  if (!/^\d{1,3}$/.test(lengthText) || length > maxLength) {
    throw new VnicError('invalid_rule', `"${text}" has no prefix length from 0 to ${maxLength}`, { remedy: example });
  }
  const bits = writtenAsIpv4 ? V4_MAPPED_BITS + length : length;
  const prefix = makePrefix(address, bits);
  if (prefix.address.some((byte, index) => byte !== address[index])) {
    throw new VnicError('invalid_rule', `"${text}" has host bits set beyond its prefix length`, {
      remedy: `Write ${formatPrefix(prefix)} for the network or ${formatPrefix(makePrefix(address, 128))} for the host.`,
    });
  }
  return prefix;
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
  if (family === 4) return address.subarray(12).join('.');
  return new ipaddr.IPv6(Array.from(address)).toRFC5952String();
}

export function familyOf(prefix: Prefix): 4 | 6 {
  return prefix.bits >= V4_MAPPED_BITS && isV4Mapped(prefix.address) ? 4 : 6;
}

/** True for an IPv6 prefix so short that every v4-mapped address is inside it, such as ::/0. */
export function coversAllIpv4(prefix: Prefix): boolean {
  return prefix.bits < V4_MAPPED_BITS && contains(prefix, makePrefix(mapIpv4([0, 0, 0, 0]), V4_MAPPED_BITS));
}

export function contains(outer: Prefix, inner: Prefix): boolean {
  return inner.bits >= outer.bits && samePrefix(outer, makePrefix(inner.address, outer.bits));
}

/** Two prefixes overlap exactly if one contains the other. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  return contains(a, b) || contains(b, a);
}

export function samePrefix(a: Prefix, b: Prefix): boolean {
  return a.bits === b.bits && a.address.every((byte, index) => byte === b.address[index]);
}

function mapIpv4(octets: readonly number[]): Uint8Array {
  const address = new Uint8Array(16);
  address[10] = 0xff;
  address[11] = 0xff;
  address.set(octets, 12);
  return address;
}

function isV4Mapped(address: Uint8Array): boolean {
  for (let index = 0; index < 10; index++) {
    if (address[index] !== 0) return false;
  }
  return address[10] === 0xff && address[11] === 0xff;
}
