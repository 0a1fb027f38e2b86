// SPDX-License-Identifier: Apache-2.0
/** Transport protocols, tunnels and sizes. */

import { type CaptureCase, caseMakers, v4Tcp, v4Udp, v4Without, v6Tcp, v6Udp, v6Without } from './capture-case.ts';
import { packet } from './packet.ts';
import { filler } from './packet-bytes.ts';
import type { TcpFields, UdpFields } from './packet-layers.ts';

const v4 = packet().ethernet().ipv4();
const v6 = packet().ethernet().ipv6();

const tcp = caseMakers('tcp');
const options = Uint8Array.of(2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7);
const tcpWith = (fields: TcpFields) => v4.tcp(fields).payload(20);

const tcpCases: CaptureCase[] = [
  tcp.good('SYN with options', v4.tcp({ flags: 0x02, options }), v4Tcp),
  tcp.good('SYN with options, IPv6', v6.tcp({ flags: 0x02, options }), v6Tcp),
  tcp.good('acknowledgement', v4.tcp(), v4Tcp),
  tcp.good('data', v4.tcp({ flags: 0x18 }).payload(500), v4Tcp),
  tcp.good('40 bytes of options', v4.tcp({ options: new Uint8Array(40).fill(1) }), v4Tcp),
  tcp.good('the largest ports', v4.tcp({ sport: 65535, dport: 65535 }), '10.0.0.1 65535 > 10.0.0.2 65535 proto 6'),
  tcp.good('port 0', v4.tcp({ sport: 0, dport: 0 }), '10.0.0.1 0 > 10.0.0.2 0 proto 6'),
  tcp.good('a wrong checksum is not looked at', tcpWith({ checksum: 1 }), v4Tcp),
  ...[0, 1, 4].map((dataOffset) => tcp.bad(`data offset ${dataOffset}`, tcpWith({ dataOffset }), 'bad_tcp_offset')),
  tcp.bad('data offset up to the end', tcpWith({ dataOffset: 10 }), v4Tcp),
  tcp.bad('data offset one beyond the end', tcpWith({ dataOffset: 11 }), 'bad_tcp_offset'),
  tcp.bad('data offset 15 into the padding', v4.tcp({ dataOffset: 15 }).padTo(120), 'bad_tcp_offset'),
  tcp.bad('data offset beyond the capture but not the packet', v4.tcp({ options }).payload(9).truncate(54), v4Tcp, {
    wireBytes: 83,
  }),
  tcp.bad('19 bytes', v4.protocol(6, filler(19)), 'truncated_l4'),
  tcp.bad('19 bytes, then padding', v4.protocol(6, filler(19)).padTo(60), 'truncated_l4'),
  tcp.bad('19 bytes, IPv6', v6.protocol(6, filler(19)), 'truncated_l4'),
];

const udp = caseMakers('udp');
const udpWith = (fields: UdpFields) => v4.udp(fields).payload(20);

const udpCases: CaptureCase[] = [
  udp.good('data', v4.udp().payload(100), v4Udp),
  udp.good('data, IPv6', v6.udp().payload(100), v6Udp),
  udp.good('no payload', v4.udp(), v4Udp),
  udp.good('no checksum', udpWith({ checksum: 0 }), v4Udp),
  udp.good('from port 0', udpWith({ sport: 0 }), '10.0.0.1 0 > 10.0.0.2 4000 proto 17'),
  udp.good(
    'VXLAN is not followed',
    v4
      .udp({ dport: 4789 })
      .payload(Uint8Array.of(8, 0, 0, 0, 0, 0, 1, 0))
      .ethernet()
      .ipv4({ src: '192.0.2.1', dst: '192.0.2.2' })
      .tcp(),
    '10.0.0.1 40000 > 10.0.0.2 4789 proto 17',
  ),
  ...[0, 1, 7].map((length) => udp.bad(`length ${length}`, udpWith({ length }), 'bad_udp_length')),
  udp.bad('length 8 although there is more', udpWith({ length: 8 }), v4Udp),
  udp.bad('length one beyond the packet', udpWith({ length: 29 }), 'bad_udp_length'),
  udp.bad('length into the padding', v4.udp({ length: 20 }).padTo(120), 'bad_udp_length'),
  udp.bad('length 65535', udpWith({ length: 65535 }), 'bad_udp_length'),
  udp.bad('length 0, IPv6', v6.udp({ length: 0 }).payload(20), 'bad_udp_length'),
  udp.bad('7 bytes', v4.protocol(17, filler(7)), 'truncated_l4'),
  udp.bad('7 bytes, IPv6', v6.protocol(17, filler(7)), 'truncated_l4'),
  udp.bad('nothing', v4.protocol(17), 'truncated_l4'),
];

const other = caseMakers('other-protocols');
const chunk = Uint8Array.of(1, 0, 0, 20, ...new Uint8Array(16)); // INIT

const otherCases: CaptureCase[] = [
  other.good('SCTP', v4.sctp().payload(chunk), '10.0.0.1 40000 > 10.0.0.2 3868 proto 132'),
  other.good('SCTP, IPv6', v6.sctp().payload(chunk), 'fd00::1 40000 > fd00::2 3868 proto 132'),
  other.bad('SCTP without a chunk', v4.sctp(), '10.0.0.1 40000 > 10.0.0.2 3868 proto 132'),
  other.bad('SCTP of 11 bytes', v4.protocol(132, filler(11)), 'truncated_l4'),
  other.good('DCCP', v4.dccp().payload(20), '10.0.0.1 40000 > 10.0.0.2 5001 proto 33'),
  other.bad('DCCP of 11 bytes', v4.protocol(33, filler(11)), 'truncated_l4'),
  other.good('UDP-Lite', v4.udpLite().payload(20), '10.0.0.1 40000 > 10.0.0.2 4000 proto 136'),
  other.good('UDP-Lite, IPv6', v6.udpLite().payload(20), 'fd00::1 40000 > fd00::2 4000 proto 136'),
  other.bad('UDP-Lite of 7 bytes', v4.protocol(136, filler(7)), 'truncated_l4'),
  other.good('ICMP echo request', v4.icmp().payload(60), v4Without(1)),
  other.good(
    'ICMP unreachable that quotes a packet',
    v4.icmp({ type: 3, code: 3 }).payload(4).ipv4({ src: '10.0.0.2', dst: '10.0.0.1' }).udp(),
    v4Without(1),
  ),
  other.bad('ICMP of 4 bytes', v4.icmp(), v4Without(1)),
  other.bad('ICMP of 3 bytes', v4.protocol(1, filler(3)), 'truncated_l4'),
  other.good('ICMPv6 echo request', v6.icmpv6().payload(60), v6Without(58)),
  other.good('ICMPv6 neighbour solicitation', v6.icmpv6({ type: 135 }).payload(20), v6Without(58)),
  other.good(
    'ICMPv6 too big that quotes a packet',
    v6.icmpv6({ type: 2 }).payload(4).ipv6({ src: 'fd00::2', dst: 'fd00::1' }).tcp(),
    v6Without(58),
  ),
  other.bad('ICMPv6 of 3 bytes', v6.protocol(58, filler(3)), 'truncated_l4'),
  other.good('IGMP', v4.protocol(2, Uint8Array.of(0x16, 0, 0xf9, 0xff, 0xe0, 0, 0, 1)), v4Without(2)),
  other.good('OSPF', v4.protocol(89, filler(44)), v4Without(89)),
  other.good(
    'GRE that carries IPv4 is not followed',
    v4.gre().ipv4({ src: '192.0.2.1', dst: '192.0.2.2' }).tcp(),
    v4Without(47),
  ),
  other.good('GRE that carries Ethernet is not followed', v6.gre().ethernet().ipv4().udp(), v6Without(47)),
  other.good(
    'IPv4 in IPv4 is not followed',
    v4.ipv4({ src: '192.0.2.1', dst: '192.0.2.2' }).udp().payload(8),
    v4Without(4),
  ),
  other.good('IPv6 in IPv4 is not followed', v4.ipv6().tcp(), v4Without(41)),
  other.good('ESP', v4.esp().payload(64), v4Without(50)),
  other.good('ESP, IPv6', v6.esp().payload(64), v6Without(50)),
  other.good('AH in IPv4 is not followed', v4.ah().udp().payload(8), v4Without(51)),
  other.good('protocol 253 (experiments)', v4.protocol(253, filler(20)), v4Without(253)),
  other.good('protocol 253, IPv6', v6.protocol(253, filler(20)), v6Without(253)),
  other.good('protocol 253 without payload', v4.protocol(253), v4Without(253)),
  other.bad('an IPv6 extension header number in IPv4 is not followed', v4.protocol(60, filler(16)), v4Without(60)),
];

const sizes = caseMakers('sizes');
const sizeCases: CaptureCase[] = [
  sizes.good('60 bytes', v4.tcp().padTo(60), v4Tcp),
  sizes.good('1514 bytes', v4.tcp().payload(1460), v4Tcp),
  sizes.good('1518 bytes with a tag', packet().ethernet().vlan(5).ipv4().tcp().payload(1460), v4Tcp),
  sizes.good('9014 bytes, jumbo', v4.udp().payload(8972), v4Udp),
  sizes.good('9014 bytes, jumbo, IPv6', v6.tcp().payload(8940), v6Tcp),
  sizes.good('60 KB, TCP, as GSO leaves it', v4.tcp({ flags: 0x18 }).payload(60_000), v4Tcp),
  sizes.good('60 KB, TCP, IPv6', v6.tcp({ flags: 0x18 }).payload(60_000), v6Tcp),
  sizes.good('60 KB, UDP', v4.udp().payload(60_000), v4Udp),
  sizes.good('65535 bytes of IPv4', v4.tcp().payload(65_495), v4Tcp),
  sizes.good('65535 bytes of IPv6 payload', v6.tcp().payload(65_515), v6Tcp),
  sizes.bad(
    '70 KB, IPv4 with total length 0',
    packet().ethernet().ipv4({ totalLength: 0 }).tcp().payload(70_000),
    'bad_ipv4_length',
  ),
  sizes.bad(
    '70 KB, IPv6 with payload length 0',
    packet().ethernet().ipv6({ payloadLength: 0 }).tcp().payload(70_000),
    'truncated_l4',
  ),
  sizes.good('jumbo cut at 128 bytes by the capture', v4.udp().payload(8972).truncate(128), v4Udp, { wireBytes: 9014 }),
  sizes.good('60 KB cut at 96 bytes by the capture', v6.tcp().payload(60_000).truncate(96), v6Tcp, {
    wireBytes: 60_074,
  }),
];

export const l4Cases: readonly CaptureCase[] = [...tcpCases, ...udpCases, ...otherCases, ...sizeCases];
