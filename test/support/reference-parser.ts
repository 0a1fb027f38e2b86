// SPDX-License-Identifier: Apache-2.0
/**
 * The parser's semantics in plain TypeScript, independent of the BPF code: the oracle of the packet tests.
 * Reasons are enum vnic_unparsed (bpf/vnic_abi.h) in lower case without prefix.
 */

import { addressText } from '../../src/captures/address-text.ts';
import type { ReplayFlowKey } from '../../src/captures/replay.ts';
import { concat, getU16 } from './packet-bytes.ts';

export type ParseResult = ReplayFlowKey | { unparsed: string };

const tags = [0x8100, 0x88a8];
const maxTags = 2;
const maxExtensions = 8;

const proto = {
  hopByHop: 0,
  icmp: 1,
  tcp: 6,
  udp: 17,
  dccp: 33,
  routing: 43,
  fragment: 44,
  ah: 51,
  icmpv6: 58,
  destination: 60,
  sctp: 132,
  mobility: 135,
  udpLite: 136,
  hip: 139,
  shim6: 140,
} as const;

/** How many bytes an extension header has, from its length field; fragment headers have no such field. */
function extensionBytes(protocol: number, lengthField: number): number | undefined {
  switch (protocol) {
    case proto.hopByHop:
    case proto.routing:
    case proto.destination:
    case proto.mobility:
    case proto.hip:
    case proto.shim6:
      return (lengthField + 1) * 8;
    case proto.ah:
      return (lengthField + 2) * 4;
    case proto.fragment:
      return 8;
    default:
      return undefined;
  }
}

/** What lies in the capture (`have`) may be less than what was on the wire (`wireBytes`). */
class Parser {
  readonly #frame: Uint8Array;
  readonly #wireBytes: number;

  constructor(frame: Uint8Array, wireBytes: number) {
    this.#frame = frame;
    this.#wireBytes = wireBytes;
  }

  #have(end: number): boolean {
    return end <= this.#frame.length;
  }

  parse(): ParseResult {
    if (!this.#have(14)) return { unparsed: 'truncated_ethernet' };
    let etherType = getU16(this.#frame, 12);
    let at = 14;
    for (let depth = 0; tags.includes(etherType); depth += 1) {
      if (depth === maxTags) return { unparsed: 'vlan_depth' };
      if (!this.#have(at + 4)) return { unparsed: 'truncated_vlan' };
      etherType = getU16(this.#frame, at + 2);
      at += 4;
    }
    if (etherType === 0x0800) return this.#ipv4(at);
    if (etherType === 0x86dd) return this.#ipv6(at);
    return { unparsed: 'not_ip' };
  }

  #ipv4(at: number): ParseResult {
    const frame = this.#frame;
    if (!this.#have(at + 20)) return { unparsed: 'truncated_ipv4' };
    if (frame[at]! >> 4 !== 4) return { unparsed: 'bad_ipv4_version' };
    const headerBytes = (frame[at]! & 0xf) * 4;
    if (headerBytes < 20) return { unparsed: 'bad_ihl' };
    const totalBytes = getU16(frame, at + 2);
    if (totalBytes < headerBytes || at + totalBytes > this.#wireBytes) return { unparsed: 'bad_ipv4_length' };
    if (!this.#have(at + headerBytes)) return { unparsed: 'truncated_ipv4' };
    const mapped = (from: number): Uint8Array =>
      concat(new Uint8Array(10), Uint8Array.of(0xff, 0xff), frame.subarray(from, from + 4));
    const addresses = { src: mapped(at + 12), dst: mapped(at + 16) };
    const protocol = frame[at + 9]!;
    const fragment = getU16(frame, at + 6);
    const isFragment = (fragment & 0x2000) !== 0 || (fragment & 0x1fff) !== 0;
    if (isFragment) return { ...addresses, sport: 0, dport: 0, proto: protocol };
    return this.#l4(addresses, protocol, at + headerBytes, at + totalBytes);
  }

  #ipv6(at: number): ParseResult {
    const frame = this.#frame;
    if (!this.#have(at + 40)) return { unparsed: 'truncated_ipv6' };
    if (frame[at]! >> 4 !== 6) return { unparsed: 'bad_ipv6_version' };
    const end = at + 40 + getU16(frame, at + 4);
    if (end > this.#wireBytes) return { unparsed: 'bad_ipv6_length' };
    const addresses = { src: frame.slice(at + 8, at + 24), dst: frame.slice(at + 24, at + 40) };
    let protocol = frame[at + 6]!;
    let here = at + 40;
    for (let followed = 0; extensionBytes(protocol, 0) !== undefined; followed += 1) {
      if (followed === maxExtensions) return { unparsed: 'extension_depth' };
      // The shortest extension header has 8 bytes.
      if (!this.#have(here + 8) || here + 8 > end) return { unparsed: 'truncated_extension' };
      const bytes = extensionBytes(protocol, frame[here + 1]!)!;
      if (!this.#have(here + bytes) || here + bytes > end) return { unparsed: 'truncated_extension' };
      const next = frame[here]!;
      // Offset or M set; with neither it is an atomic fragment (RFC 6946), a whole packet.
      if (protocol === proto.fragment && (getU16(frame, here + 2) & 0xfff9) !== 0) {
        return { ...addresses, sport: 0, dport: 0, proto: next };
      }
      protocol = next;
      here += bytes;
    }
    return this.#l4(addresses, protocol, here, end);
  }

  /** `end` is the IP packet's end, which the capture need not reach. */
  #l4(addresses: { src: Uint8Array; dst: Uint8Array }, protocol: number, at: number, end: number): ParseResult {
    const frame = this.#frame;
    const without = { ...addresses, sport: 0, dport: 0, proto: protocol };
    const fits = (bytes: number): boolean => this.#have(at + bytes) && at + bytes <= end;
    const ports = (): ParseResult => ({ ...without, sport: getU16(frame, at), dport: getU16(frame, at + 2) });
    switch (protocol) {
      case proto.tcp: {
        if (!fits(20)) return { unparsed: 'truncated_l4' };
        const headerBytes = (frame[at + 12]! >> 4) * 4;
        if (headerBytes < 20 || at + headerBytes > end) return { unparsed: 'bad_tcp_offset' };
        return ports();
      }
      case proto.udp: {
        if (!fits(8)) return { unparsed: 'truncated_l4' };
        const length = getU16(frame, at + 4);
        if (length < 8 || at + length > end) return { unparsed: 'bad_udp_length' };
        return ports();
      }
      case proto.udpLite:
        return fits(8) ? ports() : { unparsed: 'truncated_l4' };
      case proto.sctp:
      case proto.dccp:
        return fits(12) ? ports() : { unparsed: 'truncated_l4' };
      case proto.icmp:
      case proto.icmpv6:
        return fits(4) ? without : { unparsed: 'truncated_l4' };
      default:
        return without;
    }
  }
}

/** `frame` is what was captured of a frame of `wireBytes`. */
export function referenceParse(frame: Uint8Array, wireBytes: number = frame.length): ParseResult {
  return new Parser(frame, wireBytes).parse();
}

/** One line, e.g. "10.0.0.1 40000 > 10.0.0.2 53 proto 17", or the reason. */
export function resultText(result: ParseResult): string {
  if ('unparsed' in result) return result.unparsed;
  const { src, dst, sport, dport } = result;
  return `${addressText(src)} ${sport} > ${addressText(dst)} ${dport} proto ${result.proto}`;
}
