// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { addressText } from '../../src/captures/address-text.ts';
import { readCapture, readCaptureBytes } from '../../src/captures/read.ts';
import { type ReplayDataplane, replay } from '../../src/captures/replay.ts';
import { encodePcap, encodePcapng, type FrameToWrite, writePcap } from '../../src/captures/write.ts';
import type { VnicError } from '../../src/errors.ts';
import { captureSet, framesToWrite } from '../support/capture-set.ts';
import { packet, udpFrame } from '../support/packet.ts';
import { addressBytes, concat, filler } from '../support/packet-bytes.ts';
import { ReferenceDataplane } from '../support/reference-dataplane.ts';
import { skip } from '../support/skip.ts';
import { replayedFlows, tsharkFlows, tsharkMissing } from '../support/tshark.ts';

const frames = (list: readonly FrameToWrite[], linkType = 1) =>
  readCaptureBytes(concat(...encodePcap(list, { linkType })), 'test.pcap');

describe('replay', () => {
  it('reports packets, bytes, flows and reasons as the contract names them', () => {
    const small = udpFrame('10.0.0.1', '10.0.0.2', 1000, 53, 10);
    const large = udpFrame('fd00::1', 'fd00::2', 2000, 53, 100);
    const list = [
      { timeNs: 5n, data: small },
      { timeNs: 6n, data: large },
      { timeNs: 7n, data: small.slice(0, 42), wireBytes: 1000 },
      { timeNs: 8n, data: packet().ethernet().arp().build() },
      { timeNs: 9n, data: filler(13) },
      { timeNs: 9n, data: new Uint8Array(0), wireBytes: 60 },
    ];
    const v4 = { src: '10.0.0.1', dst: '10.0.0.2', srcPort: 1000, dstPort: 53, proto: 17, packets: 2, bytes: 1052 };
    const v6 = { src: 'fd00::1', dst: 'fd00::2', srcPort: 2000, dstPort: 53, proto: 17, packets: 1, bytes: 162 };
    const without = { queue: null, az: null, rule: null, verdict: 'pass' };
    assert.deepEqual(replay(frames(list), new ReferenceDataplane()), {
      packets: 6,
      bytes: 52 + 162 + 1000 + 42 + 13 + 60,
      parsed: 3,
      unparsed: { not_ip: 1, truncated_ethernet: 2 },
      flows: [
        { ...v4, ...without },
        { ...v6, ...without },
      ],
    });
  });

  it('passes on what the dataplane decided', () => {
    const key = { src: addressBytes('10.0.0.1'), dst: addressBytes('10.0.0.2'), sport: 1, dport: 2, proto: 6 };
    const decided = { queue: 7, az: 'az-a', rule: 42, verdict: 'limit' } as const;
    const dataplane: ReplayDataplane = {
      run: () => undefined,
      flows: () => [{ key, packets: 3n, bytes: 300n, droppedPackets: 1n, ...decided }],
      unparsed: () => ({ not_ip: 0 }),
    };
    const report = replay([], dataplane);
    assert.deepEqual(report.unparsed, {});
    const counted = { src: '10.0.0.1', dst: '10.0.0.2', srcPort: 1, dstPort: 2, proto: 6, packets: 3, bytes: 300 };
    assert.deepEqual(report.flows, [{ ...counted, ...decided }]);
  });

  it('lists flows by bytes, then by source, destination, ports and protocol', () => {
    const list = [
      udpFrame('10.0.0.9', '10.0.0.2', 1, 1),
      udpFrame('10.0.0.1', '10.0.0.3', 1, 1),
      udpFrame('10.0.0.1', '10.0.0.2', 2, 1),
      udpFrame('10.0.0.1', '10.0.0.2', 1, 9),
      udpFrame('10.0.0.1', '10.0.0.2', 1, 8),
      udpFrame('10.0.0.1', '10.0.0.2', 5, 5, 100),
    ].map((data) => ({ timeNs: 0n, data }));
    const { flows } = replay(frames(list), new ReferenceDataplane());
    assert.deepEqual(
      flows.map(({ src, dst, srcPort, dstPort }) => `${src} ${srcPort} ${dst} ${dstPort}`),
      [
        '10.0.0.1 5 10.0.0.2 5',
        '10.0.0.1 1 10.0.0.2 8',
        '10.0.0.1 1 10.0.0.2 9',
        '10.0.0.1 2 10.0.0.2 1',
        '10.0.0.1 1 10.0.0.3 1',
        '10.0.0.9 1 10.0.0.2 1',
      ],
    );
  });

  it('gives times that start at one second, never run back and fit a clock of 1/16 ns', () => {
    const data = udpFrame('10.0.0.1', '10.0.0.2', 1, 2);
    const epoch = 1_700_000_000_000_000_000n;
    const times = [epoch, epoch + 5n, epoch - 5n, epoch + 7n, epoch * 1000n];
    const dataplane = new ReferenceDataplane();
    const list = readCaptureBytes(concat(...encodePcapng(times.map((timeNs) => ({ timeNs, data })))), 'test.pcapng');
    replay(list, dataplane);
    const second = 1_000_000_000n;
    assert.deepEqual(dataplane.timesNs.slice(0, 4), [second, second + 5n, second, second + 7n]);
    assert.ok(dataplane.timesNs.every((timeNs) => timeNs << 4n < 1n << 64n));
  });

  it('counts the bytes of the capture, not of the Ethernet header that stands for another', () => {
    const ip = packet().ipv4().udp().payload(50).build();
    const raw = replay(
      frames(
        [
          { timeNs: 0n, data: ip },
          { timeNs: 0n, data: ip },
        ],
        101,
      ),
      new ReferenceDataplane(),
    );
    assert.equal(raw.bytes, 2 * 78);
    assert.equal(raw.flows[0]?.bytes, 2 * 78);
    const cooked = concat(new Uint8Array(14), Uint8Array.of(8, 0), ip);
    const sll = replay(frames([{ timeNs: 0n, data: cooked }], 113), new ReferenceDataplane());
    assert.equal(sll.bytes, 94);
    assert.equal(sll.flows[0]?.bytes, 94);
    assert.equal(sll.parsed, 1);
  });

  it('refuses a capture that mixes link types, and says what to do', () => {
    const data = udpFrame('10.0.0.1', '10.0.0.2', 1, 2);
    const list = [
      { timeNs: 0n, data, interfaceId: 0 },
      { timeNs: 0n, data: data.slice(14), interfaceId: 1 },
    ];
    const file = concat(...encodePcapng(list, [{ linkType: 1 }, { linkType: 101 }]));
    assert.throws(() => replay(readCaptureBytes(file, 'test.pcapng'), new ReferenceDataplane()), {
      code: 'invalid_capture',
      message: /mixes/,
      remedy: /one interface/,
    });
  });

  it('reports what stood before the damage, and the damage', () => {
    const data = udpFrame('10.0.0.1', '10.0.0.2', 1, 2);
    const file = concat(
      ...encodePcap([
        { timeNs: 0n, data },
        { timeNs: 0n, data },
      ]),
    ).slice(0, -1);
    const errors: VnicError[] = [];
    const options = { onDamage: (error: VnicError) => errors.push(error) };
    const report = replay(readCaptureBytes(file, 'test.pcap'), new ReferenceDataplane(), options);
    assert.equal(report.packets, 1);
    assert.equal(errors.length, 1);
    assert.equal(errors[0]?.code, 'invalid_capture');
    assert.throws(() => replay(readCaptureBytes(file, 'test.pcap'), new ReferenceDataplane()), {
      code: 'invalid_capture',
    });
  });

  it('does not take another failure for a damaged capture', () => {
    const dataplane = new ReferenceDataplane();
    dataplane.run = () => {
      throw new TypeError('broken');
    };
    const list = frames([{ timeNs: 0n, data: filler(60) }]);
    assert.throws(() => replay(list, dataplane, { onDamage: () => assert.fail('not damage') }), TypeError);
  });

  it('agrees with tshark on the flows of well-formed captures of every link type', function () {
    const missing = tsharkMissing();
    if (missing !== null) skip(this, missing);
    const directory = mkdtempSync(join(tmpdir(), 'vnic-captures-'));
    try {
      const good = captureSet.filter(({ wellFormed }) => wellFormed);
      const whole = framesToWrite(good);
      const untagged = framesToWrite(
        good.filter(({ frame, expect }) => !('unparsed' in expect) && frame[12] !== 0x81 && frame[12] !== 0x88),
      );
      const converted = (header: (etherType: Uint8Array) => Uint8Array) =>
        untagged.map(({ timeNs, data, wireBytes }) => {
          const link = header(data.subarray(12, 14));
          return { timeNs, data: concat(link, data.subarray(14)), wireBytes: wireBytes! - 14 + link.length };
        });
      const linkTypes: readonly (readonly [number, readonly FrameToWrite[]])[] = [
        [1, whole],
        [101, converted(() => new Uint8Array(0))],
        [0, converted((type) => Uint8Array.of(type[0] === 8 ? 2 : 30, 0, 0, 0))],
        [108, converted((type) => Uint8Array.of(0, 0, 0, type[0] === 8 ? 2 : 24))],
        [113, converted((type) => concat(Uint8Array.of(0, 0, 0, 1, 0, 6), new Uint8Array(8), type))],
        [276, converted((type) => concat(type, new Uint8Array(6), Uint8Array.of(0, 1, 0, 6), new Uint8Array(8)))],
      ];
      for (const [linkType, list] of linkTypes) {
        const path = join(directory, `${linkType}.pcap`);
        writePcap(path, list, { linkType });
        const report = replay(readCapture(path), new ReferenceDataplane());
        const theirs = tsharkFlows(path);
        assert.equal(report.packets, theirs.packets, `link type ${linkType}`);
        assert.equal(report.packets - report.parsed, theirs.unparsed, `link type ${linkType}`);
        const ours = replayedFlows(report);
        assert.deepEqual(ours, Object.fromEntries(theirs.flows), `link type ${linkType}`);
        assert.ok(Object.keys(ours).length > 20);
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe('addresses', () => {
  // RFC 5952, section 4, and IPv4.
  for (const text of ['::', '::1', '2001:db8::1', '2001:db8:0:1:1:1:1:1', '2001:0:0:1::1', '1:0:0:2::', 'fe80::']) {
    it(`prints ${text} as it is`, () => assert.equal(addressText(addressBytes(text)), text));
  }

  it('prints the first of two equally long runs of zeros short', () => {
    assert.equal(addressText(addressBytes('2001:db8:0:0:1:0:0:1')), '2001:db8::1:0:0:1');
  });

  it('prints IPv4 in dotted decimal', () => {
    assert.equal(addressText(addressBytes('192.0.2.255')), '192.0.2.255');
  });

  it('prints every IPv6 address as the URL standard does', () => {
    const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
    fc.assert(
      fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
        const full = groups.map((value) => value.toString(16)).join(':');
        fc.pre(!full.startsWith('0:0:0:0:0:ffff:'));
        assert.equal(`[${addressText(addressBytes(full))}]`, new URL(`http://[${full}]/`).hostname);
      }),
      { numRuns: 1000 },
    );
  });
});
