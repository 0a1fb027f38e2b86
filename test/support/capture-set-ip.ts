// SPDX-License-Identifier: Apache-2.0
/** IPv4, IPv6, extension headers, fragments. */

import { type CaptureCase, caseMakers, v4Tcp, v4Udp, v4Without, v6Tcp, v6Udp, v6Without } from './capture-case.ts';
import { type PacketBuilder, packet } from './packet.ts';
import { filler } from './packet-bytes.ts';
import type { Ipv4Fields, Ipv6Fields } from './packet-layers.ts';

const eth = packet().ethernet();

const ipv4 = caseMakers('ipv4');
const udpIn = (fields: Ipv4Fields) => eth.ipv4(fields).udp().payload(8); // 36 bytes of IP
const noOperation = Uint8Array.of(1);

const ipv4Cases: CaptureCase[] = [
  ipv4.good('plain', udpIn({}), v4Udp),
  ipv4.good('options: one no-operation, padded', udpIn({ options: noOperation }), v4Udp),
  ipv4.good('options: router alert', udpIn({ options: Uint8Array.of(0x94, 4, 0, 0) }), v4Udp),
  ipv4.good('options: all 40 bytes', udpIn({ options: new Uint8Array(40).fill(1) }), v4Udp),
  ipv4.good('options before TCP', eth.ipv4({ options: new Uint8Array(12).fill(1) }).tcp(), v4Tcp),
  ipv4.good('a wrong header checksum is not looked at', udpIn({ checksum: 0xdead }), v4Udp),
  ipv4.good('DF is not a fragment', udpIn({ dontFragment: true }), v4Udp),
  ipv4.bad('the reserved flag is not a fragment', udpIn({ fragmentOffset: 0x8000 }), v4Udp),
  ipv4.bad('version 0', udpIn({ version: 0 }), 'bad_ipv4_version'),
  ipv4.bad('version 5', udpIn({ version: 5 }), 'bad_ipv4_version'),
  ipv4.bad('version 6 behind the IPv4 type', udpIn({ version: 6 }), 'bad_ipv4_version'),
  ipv4.bad('version 15 and IHL 0: version first', udpIn({ version: 15, ihl: 0 }), 'bad_ipv4_version'),
  ...[0, 1, 4].map((ihl) => ipv4.bad(`IHL ${ihl}`, udpIn({ ihl }), 'bad_ihl')),
  ipv4.bad('IHL 4 and total length 0: IHL first', udpIn({ ihl: 4, totalLength: 0 }), 'bad_ihl'),
  ipv4.bad('IHL 15 beyond total length', udpIn({ ihl: 15 }), 'bad_ipv4_length'),
  ipv4.bad('IHL 15 beyond the capture', udpIn({ ihl: 15, totalLength: 60 }).truncate(50), 'truncated_ipv4', {
    wireBytes: 100,
  }),
  ipv4.bad('total length 0', udpIn({ totalLength: 0 }), 'bad_ipv4_length'),
  ipv4.bad('total length 19', udpIn({ totalLength: 19 }), 'bad_ipv4_length'),
  ipv4.bad('total length below the options', udpIn({ options: noOperation, totalLength: 23 }), 'bad_ipv4_length'),
  ipv4.bad('total length one beyond the frame', udpIn({ totalLength: 37 }), 'bad_ipv4_length'),
  ipv4.bad('total length 65535', udpIn({ totalLength: 65535 }), 'bad_ipv4_length'),
  ipv4.bad('total length one short of UDP', udpIn({ totalLength: 35 }), 'bad_udp_length'),
  ipv4.bad('total length of the header alone', udpIn({ totalLength: 20 }), 'truncated_l4'),
  ipv4.bad('an IPv6 packet behind the IPv4 type', packet().ethernet({ type: 0x0800 }).ipv6().udp(), 'bad_ipv4_version'),
];

const f4 = caseMakers('ipv4-fragments');
const fragmentCases4: CaptureCase[] = [
  f4.good('first fragment, UDP', eth.ipv4({ moreFragments: true }).udp({ length: 3000 }).payload(1472), v4Without(17)),
  f4.good(
    'middle fragment',
    eth.ipv4({ moreFragments: true, fragmentOffset: 185, protocol: 17 }).payload(1480),
    v4Without(17),
  ),
  f4.good('last fragment', eth.ipv4({ fragmentOffset: 370, protocol: 17 }).payload(40), v4Without(17)),
  f4.good('first fragment, TCP', eth.ipv4({ moreFragments: true }).tcp().payload(100), v4Without(6)),
  f4.good('last fragment, TCP', eth.ipv4({ fragmentOffset: 15, protocol: 6 }).payload(3), v4Without(6)),
  f4.good('first fragment, ICMP', eth.ipv4({ moreFragments: true }).icmp().payload(1476), v4Without(1)),
  f4.good(
    'last fragment behind options',
    eth.ipv4({ options: new Uint8Array(4).fill(1), fragmentOffset: 10, protocol: 17 }).payload(8),
    v4Without(17),
  ),
  f4.bad(
    'a first fragment too small for its ports',
    eth.ipv4({ moreFragments: true, protocol: 6 }).payload(8),
    v4Without(6),
  ),
  f4.bad('a fragment without payload', eth.ipv4({ moreFragments: true, protocol: 17 }), v4Without(17)),
  f4.bad(
    'a fragment at the largest offset',
    eth.ipv4({ fragmentOffset: 0x1fff, protocol: 17 }).payload(8),
    v4Without(17),
  ),
  f4.bad(
    'a fragment beyond the frame',
    eth.ipv4({ moreFragments: true, protocol: 17, totalLength: 200 }).payload(8),
    'bad_ipv4_length',
  ),
];

const ipv6 = caseMakers('ipv6');
const udpIn6 = (fields: Ipv6Fields) => eth.ipv6(fields).udp().payload(8); // 16 bytes of payload

const ipv6Cases: CaptureCase[] = [
  ipv6.good('plain', udpIn6({}), v6Udp),
  ipv6.good('TCP', eth.ipv6().tcp(), v6Tcp),
  ipv6.good('traffic class and flow label', udpIn6({ trafficClass: 0xff, flowLabel: 0xfffff }), v6Udp),
  ipv6.good('no next header', eth.ipv6(), v6Without(59)),
  ipv6.good('no next header, with bytes behind', eth.ipv6({ nextHeader: 59 }).payload(20), v6Without(59)),
  ipv6.good('IPv4 inside IPv6 is not followed', eth.ipv6().ipv4().udp(), v6Without(4)),
  ipv6.good('link-local', udpIn6({ src: 'fe80::1', dst: 'ff02::1' }), 'fe80::1 40000 > ff02::1 4000 proto 17'),
  ipv6.bad('version 4 behind the IPv6 type', udpIn6({ version: 4 }), 'bad_ipv6_version'),
  ipv6.bad('version 0', udpIn6({ version: 0 }), 'bad_ipv6_version'),
  ipv6.bad('payload length one beyond the frame', udpIn6({ payloadLength: 17 }), 'bad_ipv6_length'),
  ipv6.bad('payload length 65535', udpIn6({ payloadLength: 65535 }), 'bad_ipv6_length'),
  ipv6.bad('payload length 0: nothing for UDP', udpIn6({ payloadLength: 0 }), 'truncated_l4'),
  ipv6.bad('payload length 7', udpIn6({ payloadLength: 7 }), 'truncated_l4'),
  ipv6.bad('payload length one short of UDP', udpIn6({ payloadLength: 15 }), 'bad_udp_length'),
  ipv6.bad(
    'a jumbogram',
    eth
      .ipv6({ payloadLength: 0 })
      .hopByHop({ content: Uint8Array.of(0xc2, 4, 0, 1, 0, 0) })
      .udp()
      .payload(8),
    'truncated_extension',
  ),
];

const ext = caseMakers('ipv6-extensions');
const destinations = (count: number): PacketBuilder => {
  let builder = eth.ipv6();
  for (let index = 0; index < count; index += 1) builder = builder.destination();
  return builder;
};
const end = (builder: PacketBuilder) => builder.udp().payload(8);
const ip6 = eth.ipv6();

const extensionCases: CaptureCase[] = [
  ext.good('hop-by-hop', end(ip6.hopByHop()), v6Udp),
  ext.good('hop-by-hop of 24 bytes', end(ip6.hopByHop({ bytes: 24 })), v6Udp),
  ext.good('routing', end(ip6.routing({ content: Uint8Array.of(253, 0, 0, 0, 0, 0) })), v6Udp),
  ext.good(
    'segment routing with one segment',
    end(ip6.routing({ bytes: 24, content: Uint8Array.of(4, 0, 0, 0, 0, 0, 0xfd, ...new Uint8Array(14), 2) })),
    v6Udp,
  ),
  ext.good('destination options', end(ip6.destination()), v6Udp),
  ext.good(
    'destination options of 264 bytes',
    end(ip6.destination({ bytes: 264, content: Uint8Array.of(1, 255, ...new Uint8Array(255), 1, 3, 0, 0, 0) })),
    v6Udp,
  ),
  ext.good('authentication header of 24 bytes', end(ip6.ah()), v6Udp),
  ext.good('authentication header of 32 bytes', end(ip6.ah({ bytes: 32 })), v6Udp),
  ext.good('atomic fragment', end(ip6.fragment()), v6Udp),
  ext.good('atomic fragment, TCP', ip6.fragment().tcp(), v6Tcp),
  ext.good('mobility, nothing behind', ip6.mobility({ content: Uint8Array.of(0, 0, 0, 0, 0, 0) }), v6Without(59)),
  ext.good('HIP, nothing behind', ip6.hip({ bytes: 40 }), v6Without(59)),
  ext.bad('mobility, UDP behind', end(ip6.mobility()), v6Udp),
  ext.bad('HIP, UDP behind', end(ip6.hip({ bytes: 40 })), v6Udp),
  ext.bad('Shim6, UDP behind', end(ip6.shim6()), v6Udp),
  ext.good('hop-by-hop, then no next header', ip6.hopByHop(), v6Without(59)),
  ext.good(
    'the recommended order (RFC 8200, 4.1)',
    end(
      ip6
        .hopByHop()
        .destination()
        .routing({ content: Uint8Array.of(253, 0, 0, 0, 0, 0) })
        .fragment()
        .ah()
        .destination(),
    ),
    v6Udp,
  ),
  ext.good('hop-by-hop and TCP', ip6.hopByHop().tcp(), v6Tcp),
  ext.good('encrypted payload is not followed', ip6.destination().esp().payload(32), v6Without(50)),
  ext.good(
    'ICMPv6 behind hop-by-hop: a listener report',
    ip6
      .hopByHop({ content: Uint8Array.of(5, 2, 0, 0, 1, 0) })
      .icmpv6({ type: 143 })
      .payload(4),
    v6Without(58),
  ),
  ...[2, 3, 4, 5, 6, 7, 8].map((count) => ext.good(`${count} in a chain`, end(destinations(count)), v6Udp)),
  ...[9, 10, 16].map((count) =>
    ext.good(`${count} in a chain are too many`, end(destinations(count)), 'extension_depth'),
  ),
  ext.good('an atomic fragment as the eighth', end(destinations(7).fragment()), v6Udp),
  ext.good('an atomic fragment as the ninth', end(destinations(8).fragment()), 'extension_depth'),
  ext.good('a real fragment as the eighth', destinations(7).fragment({ more: true }).udp().payload(8), v6Without(17)),
  ext.bad('the ninth missing is too many all the same', destinations(9).truncate(14 + 40 + 64), 'extension_depth', {
    wireBytes: 14 + 40 + 72,
  }),
  ext.bad('a length beyond the packet', end(ip6.hopByHop({ length: 255 })), 'truncated_extension'),
  ext.bad('a length one unit beyond the packet', end(ip6.destination({ length: 3 })), 'truncated_extension'),
  ext.bad(
    "a length up to the packet's end leaves nothing for UDP",
    end(ip6.destination({ length: 2 })),
    'truncated_l4',
  ),
  ext.bad(
    'a length within the padding but beyond the packet',
    end(ip6.destination({ length: 4 })).padTo(120),
    'truncated_extension',
  ),
  ext.bad('an authentication header of 8 bytes', ip6.ah({ bytes: 12, length: 0, nextHeader: 59 }), v6Without(59)),
  ext.bad('an authentication header beyond the packet', end(ip6.ah({ length: 11 })), 'truncated_extension'),
  ext.bad(
    'a header that the payload length cuts',
    end(eth.ipv6({ payloadLength: 7 }).destination()),
    'truncated_extension',
  ),
  ext.bad('announced but absent', eth.ipv6({ nextHeader: 0 }), 'truncated_extension'),
  ext.bad('a fragment header cut in the middle', ip6.fragment({ more: true }).truncate(60), 'truncated_extension', {
    wireBytes: 62,
  }),
];

const f6 = caseMakers('ipv6-fragments');
const fragmentCases6: CaptureCase[] = [
  f6.good('first fragment, UDP', ip6.fragment({ more: true }).udp({ length: 3000 }).payload(1440), v6Without(17)),
  f6.good('middle fragment', ip6.fragment({ more: true, offset: 181, nextHeader: 17 }).payload(1448), v6Without(17)),
  f6.good('last fragment', ip6.fragment({ offset: 362, nextHeader: 17 }).payload(50), v6Without(17)),
  f6.good('first fragment, TCP', ip6.fragment({ more: true }).tcp().payload(76), v6Without(6)),
  f6.good('first fragment, ICMPv6', ip6.fragment({ more: true }).icmpv6().payload(1444), v6Without(58)),
  f6.good(
    'first fragment that begins with destination options',
    end(ip6.fragment({ more: true }).destination()),
    v6Without(60),
  ),
  f6.good('behind hop-by-hop', ip6.hopByHop().fragment({ offset: 10, nextHeader: 6 }).payload(8), v6Without(6)),
  f6.good('at the largest offset', ip6.fragment({ offset: 0x1fff, nextHeader: 17 }).payload(1), v6Without(17)),
  f6.bad(
    'a first fragment too small for its ports',
    ip6.fragment({ more: true, nextHeader: 6 }).payload(8),
    v6Without(6),
  ),
  f6.bad('reserved bits do not make a fragment', end(ip6.fragment({ reserved: 3 })), v6Udp),
  f6.bad('a fragment without payload', ip6.fragment({ more: true, nextHeader: 17 }), v6Without(17)),
  f6.bad(
    'a fragment of filler that looks like headers',
    ip6.fragment({ offset: 5, nextHeader: 0 }).payload(filler(64)),
    v6Without(0),
  ),
];

export const ipCases: readonly CaptureCase[] = [
  ...ipv4Cases,
  ...fragmentCases4,
  ...ipv6Cases,
  ...extensionCases,
  ...fragmentCases6,
];
