// SPDX-License-Identifier: Apache-2.0
/**
 * Wireshark's dissectors as a second opinion on flows.
 *
 * Where tshark differs from the parser, and what is done about it:
 * - it dissects what is inside tunnels and quoted in ICMP errors: only the outermost IP header counts here, found by
 *   `frame.protocols`, and of each field the first value;
 * - it takes 0x9100 for a tag, follows any number of tags, MPLS, PPPoE and SNAP: such frames are unparsed here;
 * - it follows any number of IPv6 extension headers: more than eight are unparsed here;
 * - it gives the ports of a first fragment: fragments have no ports here;
 * - it shows fields of damaged packets as far as it gets (wrong lengths, a bad data offset, UDP length 0): agreement on
 *   flows can only be asked of well-formed frames, for damaged ones of the number of packets.
 */

import { spawnSync } from 'node:child_process';
import type { ReplayReport } from '../../src/captures/replay.ts';
import { addressBytes } from './packet-bytes.ts';
import { type ParseResult, resultText } from './reference-parser.ts';

const fieldNames = [
  'frame.len',
  'frame.protocols',
  'eth.type',
  'vlan.etype',
  'ieee8021ad.cvid',
  'ip.src',
  'ip.dst',
  'ip.proto',
  'ip.flags.mf',
  'ip.frag_offset',
  'ipv6.src',
  'ipv6.dst',
  'ipv6.nxt',
  'ipv6.hopopts.nxt',
  'ipv6.routing.nxt',
  'ipv6.dstopts.nxt',
  'ipv6.fraghdr.nxt',
  'ipv6.fraghdr.offset',
  'ipv6.fraghdr.more',
  'ah.next_header',
  'mip6.proto',
  'hip.proto',
  'shim6.nxt',
  'tcp.srcport',
  'tcp.dstport',
  'udp.srcport',
  'udp.dstport',
  'sctp.srcport',
  'sctp.dstport',
  'dccp.srcport',
  'dccp.dstport',
] as const;

type FieldName = (typeof fieldNames)[number];

/** All values of each field, in the order of the frame. */
type Fields = ReadonlyMap<FieldName, readonly string[]>;

const preferences = [
  'ip.defragment:FALSE',
  'ipv6.defragment:FALSE',
  'ip.tso_support:FALSE',
  'tcp.desegment_tcp_streams:FALSE',
  'sctp.reassembly:FALSE',
];

export interface TsharkFrame {
  wireBytes: number;
  /** Null: no IP packet that the parser would look at. */
  flow: Exclude<ParseResult, { unparsed: string }> | null;
}

export interface TsharkFlow {
  packets: number;
  bytes: number;
}

/** Null if tshark is there, else what to say. */
export function tsharkMissing(): string | null {
  const { error, status } = spawnSync('tshark', ['--version'], { stdio: 'ignore' });
  return error === undefined && status === 0 ? null : 'tshark is not installed';
}

/** tshark's view of each frame. A damaged end of the file ends the list, as it does for tshark. */
export function tsharkFrames(path: string): TsharkFrame[] {
  const args = ['-n', '-r', path, '-T', 'fields', '-E', 'separator=/t', '-E', 'occurrence=a', '-E', 'aggregator=;'];
  args.push(...preferences.flatMap((preference) => ['-o', preference]), ...fieldNames.flatMap((name) => ['-e', name]));
  const { stdout, stderr, error } = spawnSync('tshark', args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (error !== undefined) throw error;
  const lines = stdout.split('\n').slice(0, -1);
  if (lines.length === 0 && /Unknown|invalid|aren't valid/.test(stderr)) throw new Error(stderr);
  return lines.map((line) => frameOf(line));
}

/** Packets and bytes of each flow, by `resultText` of its key. */
export function tsharkFlows(path: string): { packets: number; unparsed: number; flows: Map<string, TsharkFlow> } {
  const frames = tsharkFrames(path);
  const flows = new Map<string, TsharkFlow>();
  for (const { flow, wireBytes } of frames) {
    if (flow === null) continue;
    const key = resultText(flow);
    const counted = flows.get(key) ?? { packets: 0, bytes: 0 };
    flows.set(key, { packets: counted.packets + 1, bytes: counted.bytes + wireBytes });
  }
  return { packets: frames.length, unparsed: frames.filter(({ flow }) => flow === null).length, flows };
}

function frameOf(line: string): TsharkFrame {
  const values = line.split('\t').map((value) => (value === '' ? [] : value.split(';')));
  const fields: Fields = new Map(fieldNames.map((name, index) => [name, values[index] ?? []]));
  return { wireBytes: Number(first(fields, 'frame.len')), flow: flowOf(fields) };
}

/** Null where the header was too short for tshark to show both. */
function addressesOf(fields: Fields, family: 'ip' | 'ipv6'): { src: Uint8Array; dst: Uint8Array } | null {
  const src = first(fields, `${family}.src`);
  const dst = first(fields, `${family}.dst`);
  return src === undefined || dst === undefined ? null : { src: addressBytes(src), dst: addressBytes(dst) };
}

function first(fields: Fields, name: FieldName): string | undefined {
  return fields.get(name)?.[0];
}

function flowOf(fields: Fields): TsharkFrame['flow'] {
  const protocols = first(fields, 'frame.protocols')?.split(':') ?? [];
  const ipAt = protocols.findIndex((protocol) => protocol === 'ip' || protocol === 'ipv6');
  if (ipAt < 0 || !isPlainLink(fields, protocols.slice(0, ipAt))) return null;
  return protocols[ipAt] === 'ip' ? ipv4Flow(fields) : ipv6Flow(fields);
}

/** True if nothing but a link header and at most two tags stands before the IP packet. */
function isPlainLink(fields: Fields, before: readonly string[]): boolean {
  const linkLayers = ['eth', 'sll', 'raw', 'null', 'ethertype', 'vlan', 'ieee8021ad'];
  const types = [...(fields.get('eth.type') ?? []), ...(fields.get('vlan.etype') ?? [])];
  const named = before.filter((protocol) => protocol === 'vlan' || protocol === 'ieee8021ad').length;
  // Two 802.1ad tags in a row are one layer to tshark, with an outer and an inner id.
  const tags = named + (fields.get('ieee8021ad.cvid')?.length ?? 0);
  const oldTag = types.some((type) => Number(type) === 0x9100);
  return before.every((protocol) => linkLayers.includes(protocol)) && tags <= 2 && !oldTag;
}

function ipv4Flow(fields: Fields): TsharkFrame['flow'] {
  const addresses = addressesOf(fields, 'ip');
  if (addresses === null) return null;
  const proto = Number(first(fields, 'ip.proto'));
  const isFragment = isSet(first(fields, 'ip.flags.mf')) || Number(first(fields, 'ip.frag_offset')) !== 0;
  const ports = isFragment ? { sport: 0, dport: 0 } : portsOf(fields, proto);
  return { ...addresses, ...ports, proto };
}

const isSet = (value: string | undefined): boolean => value === '1' || value === 'True';

/** The fields that hold the next header of each kind of extension header. */
const nextFields: Readonly<Record<number, FieldName>> = {
  0: 'ipv6.hopopts.nxt',
  43: 'ipv6.routing.nxt',
  44: 'ipv6.fraghdr.nxt',
  51: 'ah.next_header',
  60: 'ipv6.dstopts.nxt',
  135: 'mip6.proto',
  139: 'hip.proto',
  140: 'shim6.nxt',
};

function ipv6Flow(fields: Fields): TsharkFrame['flow'] {
  const addresses = addressesOf(fields, 'ipv6');
  if (addresses === null) return null;
  const used = new Map<FieldName, number>();
  let proto = Number(first(fields, 'ipv6.nxt'));
  for (let followed = 0; nextFields[proto] !== undefined; followed += 1) {
    if (followed === 8) return null;
    const name = nextFields[proto]!;
    const index = used.get(name) ?? 0;
    used.set(name, index + 1);
    const next = fields.get(name)?.[index];
    if (next === undefined) return null;
    const isFragment =
      proto === 44 &&
      (Number(fields.get('ipv6.fraghdr.offset')?.[index]) !== 0 || isSet(fields.get('ipv6.fraghdr.more')?.[index]));
    proto = Number(next);
    if (isFragment) return { ...addresses, sport: 0, dport: 0, proto };
  }
  return { ...addresses, ...portsOf(fields, proto), proto };
}

const portFields: Readonly<Record<number, readonly [FieldName, FieldName]>> = {
  6: ['tcp.srcport', 'tcp.dstport'],
  17: ['udp.srcport', 'udp.dstport'],
  33: ['dccp.srcport', 'dccp.dstport'],
  132: ['sctp.srcport', 'sctp.dstport'],
  136: ['udp.srcport', 'udp.dstport'],
};

function portsOf(fields: Fields, proto: number): { sport: number; dport: number } {
  const names = portFields[proto];
  if (names === undefined) return { sport: 0, dport: 0 };
  return { sport: Number(first(fields, names[0])), dport: Number(first(fields, names[1])) };
}

/** A report's flows in the form of `tsharkFlows`, as a plain object to compare. */
export function replayedFlows(report: ReplayReport): Record<string, TsharkFlow> {
  return Object.fromEntries(
    report.flows.map(({ src, dst, srcPort, dstPort, proto, packets, bytes }) => [
      `${src} ${srcPort} > ${dst} ${dstPort} proto ${proto}`,
      { packets, bytes },
    ]),
  );
}
