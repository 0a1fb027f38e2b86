// SPDX-License-Identifier: Apache-2.0
/** The generator's flows and their frames. Pure. */
import { VnicError } from '../../src/errors.ts';
import { hostLittleEndian } from '../../src/maps/codec.ts';
import type { FlowHashKey } from '../../src/steering/hash.ts';
import { packet } from '../support/packet.ts';
import { addressBytes } from '../support/packet-bytes.ts';

export interface RigFlow {
  /** Index of the flow's counters, from 0 and without gaps over all flows of a run. */
  readonly id: number;
  /** Name of the AZ that sends it. */
  readonly az: string;
  /** Its source address is in none of the AZs' prefixes, so that the dataplane knows no AZ for it. */
  readonly outside: boolean;
  /** Canonical text; both of one family. */
  readonly src: string;
  readonly dst: string;
  readonly sport: number;
  readonly dport: number;
  /** Ethernet frame without FCS. */
  readonly frameBytes: number;
}

export interface FlowSelection {
  count: number;
  /** Names with their index, from 1. */
  azs: readonly { readonly name: string; readonly index: number }[];
  host: { readonly ipv4: string; readonly ipv6: string };
  /** Id of the first flow. Default 0. */
  firstId?: number;
  /** Default 128; at least 86. */
  frameBytes?: number;
  /** Default 7000. */
  dport?: number;
  /** One flow of so many is IPv6; 0: none. Default 4. */
  ipv6Every?: number;
  /** Source addresses that are in no AZ's prefixes. Default false. */
  outside?: boolean;
}

const hostsPerAz = 60_000;

/** Different flows from the AZs in turn, in IPv4 and IPv6; the same for the same arguments. */
export function makeFlows(selection: FlowSelection): RigFlow[] {
  const { count, azs, host, firstId = 0, frameBytes = 128, dport = 7000, ipv6Every = 4, outside = false } = selection;
  if (azs.length === 0) throw new VnicError('usage', 'Flows need at least one AZ.');
  return Array.from({ length: count }, (_, index) => {
    const id = firstId + index;
    const az = azs[index % azs.length]!;
    const turn = Math.floor(index / azs.length);
    const client = 256 + ((firstId + turn) % hostsPerAz);
    const isIpv6 = ipv6Every > 0 && turn % ipv6Every === ipv6Every - 1;
    return {
      id,
      az: az.name,
      outside,
      src: isIpv6
        ? `fd00:${outside ? (0xf0 + az.index).toString(16) : az.name.slice(-1)}::${client.toString(16)}`
        : `10.${outside ? 200 + az.index : az.index}.${client >> 8}.${client & 255}`,
      dst: isIpv6 ? host.ipv6 : host.ipv4,
      sport: 1024 + ((id * 7919) % 60_000),
      dport,
      frameBytes,
    };
  });
}

/** What the dataplane hashes of a flow. */
export function hashKeyOf(flow: RigFlow): FlowHashKey {
  return {
    src: mappedAddress(flow.src),
    dst: mappedAddress(flow.dst),
    sport: flow.sport,
    dport: flow.dport,
    proto: 17,
  };
}

/** 16 bytes; IPv4 as ::ffff:a.b.c.d. */
export function mappedAddress(text: string): Uint8Array {
  const bytes = addressBytes(text);
  if (bytes.length === 16) return bytes;
  const mapped = new Uint8Array(16);
  mapped.fill(0xff, 10, 12);
  mapped.set(bytes, 12);
  return mapped;
}

export interface FrameTemplate {
  /** Ethernet, IP and UDP. */
  header: Uint8Array;
  payloadOffset: number;
  /** The UDP checksum's sum, in the host's byte order, of a packet whose sequence and time are 0. */
  checksum: number;
}

/** Sizes of the rig's payload and its fields, as the generator program's BTF has them. */
export interface PayloadFields {
  readonly size: number;
  at(field: string): number;
}

/** Throws `usage` if the frame is too short for the headers and the rig's payload. */
export function frameTemplate(
  flow: RigFlow,
  macs: { src: string; dst: string },
  magic: number,
  fields: PayloadFields,
): FrameTemplate {
  const isIpv6 = flow.src.includes(':');
  const payloadOffset = isIpv6 ? 62 : 42;
  const payloadBytes = flow.frameBytes - payloadOffset;
  if (payloadBytes < fields.size) {
    const least = payloadOffset + fields.size;
    throw new VnicError('usage', `Flow ${flow.id} has frames of ${flow.frameBytes} bytes; it needs ${least}.`);
  }
  const payload = new Uint8Array(payloadBytes);
  const view = new DataView(payload.buffer);
  view.setUint32(fields.at('magic'), magic, hostLittleEndian);
  view.setUint32(fields.at('flow'), flow.id, hostLittleEndian);

  const ethernet = packet().ethernet(macs);
  const network = isIpv6
    ? ethernet.ipv6({ src: flow.src, dst: flow.dst })
    : ethernet.ipv4({ src: flow.src, dst: flow.dst });
  const frame = network.udp({ sport: flow.sport, dport: flow.dport }).payload(payload).build();
  const check = new DataView(frame.buffer, frame.byteOffset).getUint16(payloadOffset - 2, hostLittleEndian);
  return { header: frame.slice(0, payloadOffset), payloadOffset, checksum: ~check & 0xffff };
}
