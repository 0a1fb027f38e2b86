// SPDX-License-Identifier: Apache-2.0
/** The layers that the packet builder stacks: how each is encoded around what it carries. */

import {
  concat,
  crc32c,
  getU16,
  internetChecksum,
  ipv4Bytes,
  ipv6Bytes,
  macBytes,
  putU16,
  u16,
  u32,
} from './packet-bytes.ts';

/** What a layer is told by the layers around it. */
export interface Surroundings {
  /** EtherType of the layer inside, if it has one. */
  innerEtherType: number | undefined;
  /** IP protocol number of the layer inside, if it has one. */
  innerProtocol: number | undefined;
  /** Pseudo header of the nearest IP layer outside, for checksums. */
  pseudoHeader: ((protocol: number, length: number) => Uint8Array) | undefined;
}

export interface Layer {
  etherType?: number;
  protocol?: number;
  pseudoHeader?: (protocol: number, length: number) => Uint8Array;
  encode(inner: Uint8Array, around: Surroundings): Uint8Array;
}

export interface EthernetFields {
  src?: string;
  dst?: string;
  type?: number;
}

export function ethernetLayer(fields: EthernetFields): Layer {
  const head = concat(macBytes(fields.dst ?? '02:00:00:00:00:02'), macBytes(fields.src ?? '02:00:00:00:00:01'));
  return {
    etherType: 0x6558, // transparent Ethernet bridging, inside GRE
    encode: (inner, around) => concat(head, u16(fields.type ?? around.innerEtherType ?? 0xffff), inner),
  };
}

export interface VlanFields {
  tpid?: number;
  priority?: number;
  /** EtherType inside. */
  type?: number;
}

export function vlanLayer(id: number, fields: VlanFields): Layer {
  return {
    etherType: fields.tpid ?? 0x8100,
    encode: (inner, around) =>
      concat(u16(((fields.priority ?? 0) << 13) | id), u16(fields.type ?? around.innerEtherType ?? 0xffff), inner),
  };
}

export interface Ipv4Fields {
  src?: string;
  dst?: string;
  ttl?: number;
  tos?: number;
  id?: number;
  dontFragment?: boolean;
  moreFragments?: boolean;
  /** Units of 8 bytes, as in the header. */
  fragmentOffset?: number;
  /** Padded to a multiple of 4 bytes. */
  options?: Uint8Array;
  protocol?: number;
  version?: number;
  ihl?: number;
  totalLength?: number;
  checksum?: number;
}

export function ipv4Layer(fields: Ipv4Fields): Layer {
  const src = ipv4Bytes(fields.src ?? '10.0.0.1');
  const dst = ipv4Bytes(fields.dst ?? '10.0.0.2');
  const options = fields.options ?? new Uint8Array(0);
  const padded = concat(options, new Uint8Array(-options.length & 3));
  const flags = (fields.dontFragment ? 0x4000 : 0) | (fields.moreFragments ? 0x2000 : 0);
  return {
    etherType: 0x0800,
    protocol: 4,
    pseudoHeader: (protocol, length) => concat(src, dst, Uint8Array.of(0, protocol), u16(length)),
    encode: (inner, around) => {
      const headerBytes = 20 + padded.length;
      const header = concat(
        Uint8Array.of(((fields.version ?? 4) << 4) | (fields.ihl ?? headerBytes / 4), fields.tos ?? 0),
        u16(fields.totalLength ?? headerBytes + inner.length),
        u16(fields.id ?? 1),
        u16(flags | (fields.fragmentOffset ?? 0)),
        Uint8Array.of(fields.ttl ?? 64, fields.protocol ?? around.innerProtocol ?? 255),
        u16(0),
        src,
        dst,
        padded,
      );
      putU16(header, 10, fields.checksum ?? internetChecksum(header));
      return concat(header, inner);
    },
  };
}

export interface Ipv6Fields {
  src?: string;
  dst?: string;
  hopLimit?: number;
  trafficClass?: number;
  flowLabel?: number;
  nextHeader?: number;
  version?: number;
  payloadLength?: number;
}

export function ipv6Layer(fields: Ipv6Fields): Layer {
  const src = ipv6Bytes(fields.src ?? 'fd00::1');
  const dst = ipv6Bytes(fields.dst ?? 'fd00::2');
  const first = ((fields.version ?? 6) << 28) | ((fields.trafficClass ?? 0) << 20) | (fields.flowLabel ?? 0);
  return {
    etherType: 0x86dd,
    protocol: 41,
    pseudoHeader: (protocol, length) => concat(src, dst, u32(length), u32(protocol)),
    encode: (inner, around) =>
      concat(
        u32(first),
        u16(fields.payloadLength ?? inner.length),
        Uint8Array.of(fields.nextHeader ?? around.innerProtocol ?? 59, fields.hopLimit ?? 64),
        src,
        dst,
        inner,
      ),
  };
}

export interface ExtensionFields {
  /** Whole header; a multiple of 8 (AH: of 4). */
  bytes?: number;
  nextHeader?: number;
  /** The length field as in the header. */
  length?: number;
  /** What stands after the first two bytes; replaces the default content. */
  content?: Uint8Array;
}

/** Options are one PadN (RFC 8200, 4.2). */
function padOption(count: number): Uint8Array {
  return count < 2 ? new Uint8Array(count) : concat(Uint8Array.of(1, count - 2), new Uint8Array(count - 2));
}

/** Hop-by-hop, destination options, routing, mobility, HIP and Shim6: length in 8 bytes, the first not counted. */
export function extensionLayer(protocol: number, fields: ExtensionFields): Layer {
  const bytes = fields.bytes ?? 8;
  const holdsOptions = protocol === 0 || protocol === 60;
  const content = fields.content ?? (holdsOptions ? padOption(bytes - 2) : new Uint8Array(bytes - 2));
  return {
    protocol,
    encode: (inner, around) => {
      const next = fields.nextHeader ?? around.innerProtocol ?? 59;
      return concat(Uint8Array.of(next, fields.length ?? bytes / 8 - 1), content, inner);
    },
  };
}

/** Authentication header (RFC 4302): length in 4 bytes, two not counted. */
export function ahLayer(fields: ExtensionFields): Layer {
  const bytes = fields.bytes ?? 24;
  const content = fields.content ?? concat(u16(0), u32(0x100), u32(1), new Uint8Array(bytes - 12));
  return {
    protocol: 51,
    encode: (inner, around) => {
      const next = fields.nextHeader ?? around.innerProtocol ?? 59;
      return concat(Uint8Array.of(next, fields.length ?? bytes / 4 - 2), content, inner);
    },
  };
}

export interface FragmentFields {
  /** Units of 8 bytes, as in the header. */
  offset?: number;
  more?: boolean;
  /** The two reserved bits. */
  reserved?: number;
  id?: number;
  nextHeader?: number;
}

export function fragmentLayer(fields: FragmentFields): Layer {
  return {
    protocol: 44,
    encode: (inner, around) =>
      concat(
        Uint8Array.of(fields.nextHeader ?? around.innerProtocol ?? 59, 0),
        u16(((fields.offset ?? 0) << 3) | ((fields.reserved ?? 0) << 1) | (fields.more ? 1 : 0)),
        u32(fields.id ?? 1),
        inner,
      ),
  };
}

/** Puts the checksum over pseudo header, header and payload at `at`. */
function checksummed(
  segment: Uint8Array,
  at: number,
  protocol: number,
  around: Surroundings,
  given?: number,
): Uint8Array {
  const pseudo = around.pseudoHeader?.(protocol, segment.length) ?? new Uint8Array(0);
  putU16(segment, at, given ?? internetChecksum(concat(pseudo, segment)));
  // UDP: 0 means "none", so a computed 0 is sent as all ones (RFC 768).
  if (given === undefined && protocol === 17 && getU16(segment, at) === 0) putU16(segment, at, 0xffff);
  return segment;
}

export interface PortFields {
  sport?: number;
  dport?: number;
  checksum?: number;
}

export interface TcpFields extends PortFields {
  flags?: number;
  sequence?: number;
  acknowledgement?: number;
  window?: number;
  /** Padded to a multiple of 4 bytes with end-of-options. */
  options?: Uint8Array;
  /** In 4 bytes, as in the header. */
  dataOffset?: number;
}

export function tcpLayer(fields: TcpFields): Layer {
  const options = fields.options ?? new Uint8Array(0);
  const padded = concat(options, new Uint8Array(-options.length & 3));
  return {
    protocol: 6,
    encode: (inner, around) => {
      const header = concat(
        u16(fields.sport ?? 40000),
        u16(fields.dport ?? 443),
        u32(fields.sequence ?? 1),
        u32(fields.acknowledgement ?? 0),
        Uint8Array.of((fields.dataOffset ?? 5 + padded.length / 4) << 4, fields.flags ?? 0x10),
        u16(fields.window ?? 0xffff),
        u32(0),
        padded,
      );
      return checksummed(concat(header, inner), 16, 6, around, fields.checksum);
    },
  };
}

export interface UdpFields extends PortFields {
  length?: number;
}

export function udpLayer(fields: UdpFields): Layer {
  return {
    protocol: 17,
    encode: (inner, around) => {
      const ports = concat(u16(fields.sport ?? 40000), u16(fields.dport ?? 4000));
      const segment = concat(ports, u16(fields.length ?? 8 + inner.length), u16(0), inner);
      return checksummed(segment, 6, 17, around, fields.checksum);
    },
  };
}

/** RFC 3828; the checksum covers everything (coverage 0). */
export function udpLiteLayer(fields: PortFields): Layer {
  return {
    protocol: 136,
    encode: (inner, around) => {
      const segment = concat(u16(fields.sport ?? 40000), u16(fields.dport ?? 4000), u32(0), inner);
      return checksummed(segment, 6, 136, around, fields.checksum);
    },
  };
}

/** A DCCP data packet with a short sequence number: 12 bytes (RFC 4340, 5.1). */
export function dccpLayer(fields: PortFields): Layer {
  return {
    protocol: 33,
    encode: (inner, around) => {
      const ports = concat(u16(fields.sport ?? 40000), u16(fields.dport ?? 5001));
      const data = 2 << 1;
      const segment = concat(ports, Uint8Array.of(3, 0), u16(0), Uint8Array.of(data, 0, 0, 1), inner);
      return checksummed(segment, 6, 33, around, fields.checksum);
    },
  };
}

export function sctpLayer(fields: PortFields): Layer {
  return {
    protocol: 132,
    encode: (inner) => {
      const segment = concat(u16(fields.sport ?? 40000), u16(fields.dport ?? 3868), u32(1), u32(0), inner);
      new DataView(segment.buffer).setUint32(8, fields.checksum ?? crc32c(segment), true);
      return segment;
    },
  };
}

export interface IcmpFields {
  type?: number;
  code?: number;
  checksum?: number;
}

/** Four bytes of header and the rest as payload; an echo request by default. */
export function icmpLayer(fields: IcmpFields): Layer {
  return {
    protocol: 1,
    encode: (inner) => {
      const message = concat(Uint8Array.of(fields.type ?? 8, fields.code ?? 0), u16(0), inner);
      putU16(message, 2, fields.checksum ?? internetChecksum(message));
      return message;
    },
  };
}

export function icmpv6Layer(fields: IcmpFields): Layer {
  return {
    protocol: 58,
    encode: (inner, around) => {
      const message = concat(Uint8Array.of(fields.type ?? 128, fields.code ?? 0), u16(0), inner);
      return checksummed(message, 2, 58, around, fields.checksum);
    },
  };
}

/** RFC 2784 without checksum. */
export function greLayer(fields: { type?: number }): Layer {
  return {
    protocol: 47,
    encode: (inner, around) => concat(u16(0), u16(fields.type ?? around.innerEtherType ?? 0), inner),
  };
}

export function espLayer(fields: { spi?: number; sequence?: number }): Layer {
  return { protocol: 50, encode: (inner) => concat(u32(fields.spi ?? 0x100), u32(fields.sequence ?? 1), inner) };
}

export interface ArpFields {
  sender?: string;
  target?: string;
  operation?: number;
}

export function arpLayer(fields: ArpFields): Layer {
  const head = concat(u16(1), u16(0x0800), Uint8Array.of(6, 4), u16(fields.operation ?? 1));
  const sender = concat(macBytes('02:00:00:00:00:01'), ipv4Bytes(fields.sender ?? '10.0.0.1'));
  const target = concat(new Uint8Array(6), ipv4Bytes(fields.target ?? '10.0.0.2'));
  return { etherType: 0x0806, encode: (inner) => concat(head, sender, target, inner) };
}

export function bytesLayer(bytes: Uint8Array, as: { etherType?: number; protocol?: number } = {}): Layer {
  return { ...as, encode: (inner) => concat(bytes, inner) };
}
