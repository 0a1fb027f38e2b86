// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { pcap, readAll } from '../support/captures.ts';
import { packet, udpFrame } from '../support/packet.ts';
import { concat, filler } from '../support/packet-bytes.ts';
import { PcapngBlocks } from '../support/pcapng-blocks.ts';

const little = new PcapngBlocks('little');
const frameA = udpFrame('10.0.0.1', '10.0.0.2', 1, 2);

describe('link types', () => {
  const ip4 = packet().ipv4().udp().payload(8).build();
  const ip6 = packet().ipv6().tcp().build();
  const sll = (type: number) => Uint8Array.of(0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, type >> 8, type & 0xff);
  const sll2 = (type: number) => concat(Uint8Array.of(type >> 8, type & 0xff), new Uint8Array(18));
  const conversions: readonly (readonly [string, number, Uint8Array, Uint8Array, number])[] = [
    ['RAW, IPv4', 101, new Uint8Array(0), ip4, 0x0800],
    ['RAW, IPv6', 101, new Uint8Array(0), ip6, 0x86dd],
    ['RAW as BSD numbers it', 12, new Uint8Array(0), ip4, 0x0800],
    ['RAW as OpenBSD numbers it', 14, new Uint8Array(0), ip6, 0x86dd],
    ['RAW, neither version', 101, new Uint8Array(0), filler(40), 0xffff],
    ['IPV4', 228, new Uint8Array(0), ip4, 0x0800],
    ['IPV6', 229, new Uint8Array(0), ip6, 0x86dd],
    ['NULL, IPv4, little-endian', 0, Uint8Array.of(2, 0, 0, 0), ip4, 0x0800],
    ['NULL, IPv4, big-endian', 0, Uint8Array.of(0, 0, 0, 2), ip4, 0x0800],
    ['NULL, IPv6 of macOS', 0, Uint8Array.of(30, 0, 0, 0), ip6, 0x86dd],
    ['NULL, IPv6 of FreeBSD', 0, Uint8Array.of(28, 0, 0, 0), ip6, 0x86dd],
    ['NULL, another family', 0, Uint8Array.of(7, 0, 0, 0), filler(30), 0xffff],
    ['LOOP, IPv6 of OpenBSD', 108, Uint8Array.of(0, 0, 0, 24), ip6, 0x86dd],
    ['LINUX_SLL, IPv4', 113, sll(0x0800), ip4, 0x0800],
    ['LINUX_SLL, ARP', 113, sll(0x0806), filler(28), 0x0806],
    ['LINUX_SLL2, IPv6', 276, sll2(0x86dd), ip6, 0x86dd],
  ];
  for (const [name, linkType, header, network, etherType] of conversions) {
    it(`puts an Ethernet header in place of ${name}`, () => {
      const data = concat(header, network);
      const [frame] = readAll(pcap([{ timeNs: 0n, data }], { linkType })).frames;
      const ethernet = concat(new Uint8Array(12), Uint8Array.of(etherType >> 8, etherType & 0xff), network);
      assert.deepEqual(frame?.ethernet, ethernet);
      assert.equal(frame?.wireBytes, data.length);
      assert.equal(frame?.addedBytes, ethernet.length - data.length);
    });
  }

  for (const [linkType, headerBytes] of [
    [0, 4],
    [108, 4],
    [113, 16],
    [276, 20],
  ] as const) {
    it(`gives an empty frame for link type ${linkType} cut within its header`, () => {
      const cut = { timeNs: 0n, data: filler(headerBytes - 1), wireBytes: 100 };
      const [frame] = readAll(pcap([cut], { linkType })).frames;
      assert.equal(frame?.ethernet.length, 0);
      assert.equal(frame?.addedBytes, 14 - headerBytes);
    });
  }

  it('ignores the frame check sequence bits of a pcap link type', () => {
    const [frame] = readAll(pcap([{ timeNs: 0n, data: frameA }], { linkType: 0x24000001 })).frames;
    assert.equal(frame?.linkType, 1);
    assert.deepEqual(frame?.ethernet, frameA);
  });

  for (const [linkType, name] of [
    [105, 'IEEE802_11 (105)'],
    [127, 'IEEE802_11_RADIOTAP (127)'],
    [9, 'PPP (9)'],
    [150, 'USER3 (150)'],
    [9999, 'unknown (9999)'],
  ] as const) {
    it(`refuses ${name} by its name`, () => {
      const { frames, error } = readAll(pcap([{ timeNs: 0n, data: frameA }], { linkType }));
      assert.equal(frames.length, 0);
      assert.match(error?.message ?? '', new RegExp(name.replace(/[()]/g, '\\$&')));
    });
  }

  it('refuses a pcapng interface only when a packet is of it', () => {
    const start = concat(little.section(), little.interface(1), little.interface(105), little.enhanced(0, 1n, frameA));
    assert.equal(readAll(start).error, null);
    const { frames, error } = readAll(concat(start, little.enhanced(1, 1n, frameA)));
    assert.equal(frames.length, 1);
    assert.match(error?.message ?? '', /IEEE802_11 \(105\)/);
  });
});
