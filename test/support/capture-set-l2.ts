// SPDX-License-Identifier: Apache-2.0
/** Ethernet and VLAN. */

import { type CaptureCase, caseMakers, v4Tcp, v4Udp, v6Udp } from './capture-case.ts';
import { packet } from './packet.ts';
import { filler } from './packet-bytes.ts';

const { good, bad } = caseMakers('ethernet');
const eth = packet().ethernet();
const udp4 = eth.ipv4().udp();

const ethernetCases: CaptureCase[] = [
  bad('no bytes at all', new Uint8Array(0), 'truncated_ethernet'),
  bad('one byte', filler(1), 'truncated_ethernet'),
  bad('13 bytes', udp4.truncate(13), 'truncated_ethernet'),
  bad('an Ethernet header alone, IPv4', udp4.truncate(14), 'truncated_ipv4'),
  bad('an Ethernet header alone, IPv6', eth.ipv6().udp().truncate(14), 'truncated_ipv6'),
  good('an Ethernet header alone, no known type', eth.etherType(0x88b5), 'not_ip'),
  good('ARP request', eth.arp().padTo(60), 'not_ip'),
  good('ARP reply', eth.arp({ operation: 2 }).padTo(60), 'not_ip'),
  good('LLC: spanning tree', eth.llc(), 'not_ip'),
  good(
    'LLC and SNAP that carry IPv4 are not followed',
    eth.etherType(46, Uint8Array.of(0xaa, 0xaa, 3, 0, 0, 0, 8, 0, ...packet().ipv4().udp().payload(10).build())),
    'not_ip',
  ),
  good('LLDP', eth.etherType(0x88cc, filler(46)), 'not_ip'),
  good(
    'MPLS that carries IPv4 is not followed',
    eth.etherType(0x8847, Uint8Array.of(0, 1, 1, 64, ...packet().ipv4().udp().payload(10).build())),
    'not_ip',
  ),
  good(
    'PPPoE that carries IPv4 is not followed',
    eth.etherType(0x8864, Uint8Array.of(0x11, 0, 0, 1, 0, 40, 0, 0x21, ...packet().ipv4().udp().payload(10).build())),
    'not_ip',
  ),
  good('padding to 60 bytes after a short packet', udp4.padTo(60), v4Udp),
  good('padding after a TCP acknowledgement', eth.ipv4().tcp().padTo(60), v4Tcp),
  good('padding after IPv6', eth.ipv6().udp().padTo(90), v6Udp),
  good(
    'broadcast',
    packet().ethernet({ dst: 'ff:ff:ff:ff:ff:ff' }).ipv4({ dst: '255.255.255.255' }).udp().payload(4),
    '10.0.0.1 40000 > 255.255.255.255 4000 proto 17',
  ),
];

const vlan = caseMakers('vlan');
const inner = (start: ReturnType<typeof packet>) => start.ipv4().udp().payload(8);

const vlanCases: CaptureCase[] = [
  vlan.good('no tag', inner(eth), v4Udp),
  vlan.good('one 802.1Q tag', inner(eth.vlan(5)), v4Udp),
  vlan.good('one 802.1Q tag, IPv6', eth.vlan(5).ipv6().udp().payload(8), v6Udp),
  vlan.good('a priority tag', inner(eth.vlan(0, { priority: 7 })), v4Udp),
  vlan.good('one 802.1ad tag', inner(eth.vlan(5, { tpid: 0x88a8 })), v4Udp),
  vlan.good('802.1ad outside 802.1Q', inner(eth.vlan(6, { tpid: 0x88a8 }).vlan(5)), v4Udp),
  vlan.good('two 802.1Q tags', inner(eth.vlan(6).vlan(5)), v4Udp),
  vlan.good('802.1Q outside 802.1ad', inner(eth.vlan(6).vlan(5, { tpid: 0x88a8 })), v4Udp),
  vlan.good('two tags around ARP', eth.vlan(6).vlan(5).arp(), 'not_ip'),
  vlan.good('three tags', inner(eth.vlan(7).vlan(6).vlan(5)), 'vlan_depth'),
  vlan.good(
    'three tags of both kinds',
    inner(eth.vlan(7, { tpid: 0x88a8 }).vlan(6, { tpid: 0x88a8 }).vlan(5)),
    'vlan_depth',
  ),
  vlan.good('four tags', inner(eth.vlan(8).vlan(7).vlan(6).vlan(5)), 'vlan_depth'),
  vlan.good('0x9100 is not a tag', inner(eth.vlan(5, { tpid: 0x9100 })), 'not_ip'),
  vlan.good('0x9100 inside a tag is not a tag', inner(eth.vlan(6).vlan(5, { tpid: 0x9100 })), 'not_ip'),
  vlan.bad('a tag cut in the middle', inner(eth.vlan(5)).truncate(16), 'truncated_vlan'),
  vlan.bad('the second tag missing', inner(eth.vlan(6).vlan(5)).truncate(18), 'truncated_vlan'),
  vlan.bad(
    'the third tag missing is too deep all the same',
    inner(eth.vlan(7).vlan(6).vlan(5)).truncate(22),
    'vlan_depth',
  ),
  vlan.bad(
    'the IPv4 length counts from behind the tags',
    eth.vlan(5).ipv4({ totalLength: 37 }).udp().payload(8),
    'bad_ipv4_length',
  ),
];

export const l2Cases: readonly CaptureCase[] = [...ethernetCases, ...vlanCases];
