// SPDX-License-Identifier: Apache-2.0
/** Each protocol stack cut at every byte: short on the wire, and whole on the wire but cut by the capture. */

import { type CaptureCase, caseMakers } from './capture-case.ts';
import { type PacketBuilder, packet } from './packet.ts';

const eth = packet().ethernet();

const stacks: Readonly<Record<string, PacketBuilder>> = {
  'IPv4 TCP': eth
    .ipv4()
    .tcp({ options: new Uint8Array(12).fill(1) })
    .payload(4),
  'IPv4 with options, UDP': eth
    .ipv4({ options: new Uint8Array(8).fill(1) })
    .udp()
    .payload(4),
  'tag, IPv4 UDP': eth.vlan(5).ipv4().udp().payload(4),
  'two tags, IPv6 TCP': eth.vlan(6, { tpid: 0x88a8 }).vlan(5).ipv6().tcp().payload(4),
  'three tags': eth.vlan(7).vlan(6).vlan(5).ipv4().udp(),
  'IPv4 SCTP': eth.ipv4().sctp().payload(4),
  'IPv4 ICMP': eth.ipv4().icmp().payload(8),
  'IPv4 UDP-Lite': eth.ipv4().udpLite().payload(4),
  'IPv4 DCCP': eth.ipv4().dccp().payload(4),
  'IPv4 GRE': eth.ipv4().gre().ipv4().udp(),
  'IPv4 fragment': eth.ipv4({ moreFragments: true }).udp({ length: 100 }).payload(8),
  'IPv6 UDP': eth.ipv6().udp().payload(4),
  'IPv6 ICMPv6': eth.ipv6().icmpv6().payload(8),
  'IPv6 hop-by-hop, routing, destination, TCP': eth
    .ipv6()
    .hopByHop()
    .routing({ bytes: 24 })
    .destination({ bytes: 16 })
    .tcp(),
  'IPv6 AH, UDP': eth.ipv6().ah().udp().payload(4),
  'IPv6 atomic fragment, SCTP': eth.ipv6().fragment().sctp().payload(4),
  'IPv6 fragment': eth.ipv6().fragment({ more: true }).udp({ length: 100 }).payload(8),
  ARP: eth.arp(),
};

const short = caseMakers('cut-on-the-wire');
const snapped = caseMakers('cut-by-the-capture');

function cuts(name: string, builder: PacketBuilder): CaptureCase[] {
  const frame = builder.build();
  const lengths = Array.from({ length: frame.length }, (_, length) => length);
  return lengths.flatMap((length) => [
    short.bad(`${name}: ${length} of ${frame.length} bytes on the wire`, frame.slice(0, length)),
    snapped.bad(`${name}: ${length} of ${frame.length} bytes captured`, frame.slice(0, length), undefined, {
      wireBytes: frame.length,
    }),
  ]);
}

export const cutCases: readonly CaptureCase[] = Object.entries(stacks).flatMap(([name, builder]) =>
  cuts(name, builder),
);
