// SPDX-License-Identifier: Apache-2.0
/**
 * Addresses as text. A rule set of 100,000 rules has as many of them, so the usual forms are read and written here
 * digit by digit; what is rarer (IPv4 inside IPv6) is left to ipaddr.js.
 */
import ipaddr from 'ipaddr.js';

const DOT = 0x2e;
const COLON = 0x3a;
const ZERO = 0x30;
const NINE = 0x39;

/**
 * Four octets, written to `to` from `at` on; false if the text is anything else. Short and octal forms ("10.1",
 * "010.0.0.1") mean different things to different tools: refused.
 */
export function readIpv4(text: string, to: Uint8Array, at: number): boolean {
  let octet = 0;
  let digits = 0;
  let value = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === DOT) {
      if (digits === 0 || octet === 3) return false;
      to[at + octet++] = value;
      digits = 0;
      value = 0;
      continue;
    }
    if (code < ZERO || code > NINE || (digits > 0 && value === 0)) return false;
    value = value * 10 + code - ZERO;
    if (value > 255) return false;
    digits++;
  }
  if (octet !== 3 || digits === 0) return false;
  to[at + 3] = value;
  return true;
}

/** 16 bytes; undefined if the text is no IPv6 address. A zone ("%eth0") is no part of what a packet carries. */
export function parseIpv6(text: string): Uint8Array | undefined {
  const plain = parseGroups(text);
  if (plain !== undefined) return plain;
  if (!text.includes(':') || text.includes('%')) return undefined;
  try {
    return Uint8Array.from(ipaddr.IPv6.parse(text).toByteArray());
  } catch {
    return undefined;
  }
}

/** Groups of up to four hexadecimal digits and at most one "::"; undefined for every other form, valid or not. */
function parseGroups(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(16);
  let count = 0;
  let gap = -1;
  let digits = 0;
  let value = 0;
  let index = 0;
  if (text.startsWith('::')) {
    gap = 0;
    index = 2;
  }
  for (; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === COLON) {
      if (count === 8) return undefined;
      if (digits > 0) {
        putGroup(bytes, count++, value);
        digits = 0;
        value = 0;
        // A colon at the end must be the second one of "::".
        if (index === text.length - 1) return undefined;
        continue;
      }
      if (gap >= 0 || count === 0) return undefined;
      gap = count;
      continue;
    }
    const digit = hexDigit(code);
    if (digit < 0 || digits === 4) return undefined;
    value = value * 16 + digit;
    digits++;
  }
  if (digits > 0) {
    if (count === 8) return undefined;
    putGroup(bytes, count++, value);
  }
  if (gap < 0) return count === 8 ? bytes : undefined;
  if (count === 8) return undefined;
  bytes.copyWithin(16 - 2 * (count - gap), 2 * gap, 2 * count);
  bytes.fill(0, 2 * gap, 16 - 2 * (count - gap));
  return bytes;
}

function putGroup(bytes: Uint8Array, group: number, value: number): void {
  bytes[2 * group] = value >> 8;
  bytes[2 * group + 1] = value & 0xff;
}

function hexDigit(code: number): number {
  if (code >= ZERO && code <= NINE) return code - ZERO;
  // Letters differ from their capitals in one bit.
  const letter = (code | 0x20) - 0x61;
  return letter >= 0 && letter < 6 ? letter + 10 : -1;
}

/** The last four bytes of a 16-byte address. */
export function formatIpv4(address: Uint8Array): string {
  return `${address[12]}.${address[13]}.${address[14]}.${address[15]}`;
}

/** RFC 5952: lower case, no leading zeroes, the first longest run of two or more zero groups as "::". */
export function formatIpv6(address: Uint8Array): string {
  let start = -1;
  let longest = 1;
  let run = 0;
  for (let group = 0; group < 8; group++) {
    run = groupAt(address, group) === 0 ? run + 1 : 0;
    if (run > longest) {
      longest = run;
      start = group - run + 1;
    }
  }
  if (start < 0) return groupsText(address, 0, 8);
  return `${groupsText(address, 0, start)}::${groupsText(address, start + longest, 8)}`;
}

function groupsText(address: Uint8Array, from: number, to: number): string {
  let text = '';
  for (let group = from; group < to; group++) {
    if (group > from) text += ':';
    text += groupAt(address, group).toString(16);
  }
  return text;
}

function groupAt(address: Uint8Array, group: number): number {
  return (address[2 * group]! << 8) | address[2 * group + 1]!;
}
