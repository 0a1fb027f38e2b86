// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { encodePcap } from '../../src/captures/write.ts';
import { frameSet, pcap, pcapng, readAll } from '../support/captures.ts';
import { udpFrame } from '../support/packet.ts';
import { concat, filler } from '../support/packet-bytes.ts';
import { PcapngBlocks } from '../support/pcapng-blocks.ts';
import { skip } from '../support/skip.ts';
import { tsharkFrames, tsharkMissing } from '../support/tshark.ts';

const little = new PcapngBlocks('little');
const big = new PcapngBlocks('big');
const frameA = udpFrame('10.0.0.1', '10.0.0.2', 1, 2);
const frameB = udpFrame('10.0.0.3', '10.0.0.4', 3, 4, 21);

describe('damaged captures', () => {
  const good = concat(little.section(), little.interface(1, 100), little.enhanced(0, 1n, frameA));
  const at = good.length;
  const record = pcap(frameSet);
  const recordEnd = record.length;
  const ascii = (text: string) => new TextEncoder().encode(text);
  const claim = (capturedBytes: number, wireBytes: number) => {
    const header = new Uint8Array(16);
    const view = new DataView(header.buffer);
    view.setUint32(8, capturedBytes, true);
    view.setUint32(12, wireBytes, true);
    return header;
  };

  /** Name, file, packets that are delivered first, message, byte where it is damaged. */
  const damages: readonly (readonly [string, Uint8Array, number, RegExp, number])[] = [
    ['an empty file', new Uint8Array(0), 0, /is empty/, 0],
    ['three bytes', Uint8Array.of(0xd4, 0xc3, 0xb2), 0, /3 bytes are too short/, 0],
    ['a text file', ascii('hello world'), 0, /not a capture: it begins with 68 65 6c 6c/, 0],
    ['zeros', new Uint8Array(100), 0, /not a capture: it begins with 00 00 00 00/, 0],
    ['gzip', Uint8Array.of(0x1f, 0x8b, 8, 0), 0, /compressed with gzip/, 0],
    ['two bytes of gzip', Uint8Array.of(0x1f, 0x8b), 0, /compressed with gzip/, 0],
    ['zstd', Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd), 0, /compressed with zstd/, 0],
    ['xz', Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a), 0, /compressed with xz/, 0],
    ['bzip2', ascii('BZh9'), 0, /compressed with bzip2/, 0],
    ['lz4', Uint8Array.of(4, 0x22, 0x4d, 0x18), 0, /compressed with lz4/, 0],
    ['zip', ascii('PK\x03\x04'), 0, /zip archive/, 0],
    ['snoop', ascii('snoop\0\0\0'), 0, /snoop capture/, 0],
    ['modified pcap', Uint8Array.of(0x34, 0xcd, 0xb2, 0xa1), 0, /modified pcap/, 0],
    ['pcap: a short file header', record.slice(0, 23), 0, /header is cut short \(23 of 24 bytes\)/, 0],
    ['pcap: another version', Uint8Array.of(...record.slice(0, 4), 3, 0, ...record.slice(6)), 0, /version 3\.4/, 4],
    [
      'pcap: a short record header',
      concat(record, claim(4, 4).slice(0, 15)),
      5,
      /cut short \(15 of 16 bytes\)/,
      recordEnd,
    ],
    ['pcap: a short packet', concat(record, claim(40, 40), filler(39)), 5, /cut short \(39 of 40 bytes\)/, recordEnd],
    [
      'pcap: an absurd length',
      concat(record, claim(262_145, 262_145), filler(10)),
      5,
      /262145 captured bytes/,
      recordEnd,
    ],
    ['pcap: the largest length', concat(record, claim(0xffffffff, 0)), 5, /4294967295 captured bytes/, recordEnd],
    ['pcapng: no byte-order magic', little.section({ magic: 0x11111111 }), 0, /no byte-order magic/, 0],
    ['pcapng: another version', little.section({ major: 2 }), 0, /pcapng version 2\.0/, 0],
    [
      'pcapng: a short section header',
      little.block(0x0a0d0d0a, little.u32(0x1a2b3c4d)),
      0,
      /section header block has 4 of/,
      0,
    ],
    [
      'pcapng: a short interface',
      concat(good, little.block(1, little.u32(1))),
      1,
      /interface description block has 4 of/,
      at,
    ],
    [
      'pcapng: a short enhanced packet',
      concat(good, little.block(6, filler(16))),
      1,
      /enhanced packet block has 16 of/,
      at,
    ],
    [
      'pcapng: a short simple packet',
      concat(good, little.block(3, new Uint8Array(0))),
      1,
      /simple packet block has 0 of/,
      at,
    ],
    ['pcapng: a zero block', concat(good, new Uint8Array(64)), 1, /length of 0 is not/, at],
    [
      'pcapng: a length below 12',
      concat(good, little.block(6, filler(20), { length: 8 })),
      1,
      /length of 8 is not/,
      at,
    ],
    [
      'pcapng: a length of no multiple of 4',
      concat(good, little.block(6, filler(20), { length: 33 })),
      1,
      /length of 33 is not/,
      at,
    ],
    [
      'pcapng: lengths that differ',
      concat(good, little.block(6, filler(20), { trailer: 36 })),
      1,
      /32 bytes at its start and 36 at its end/,
      at,
    ],
    [
      'pcapng: an absurd block',
      concat(good, little.block(6, filler(20), { length: 0x7ffffffc })),
      1,
      /claims 2147483644 bytes/,
      at,
    ],
    [
      'pcapng: an unknown block beyond the file',
      concat(good, little.block(99, filler(20), { length: 0x7ffffffc })),
      1,
      /cut short \(32 of 2147483644 bytes\)/,
      at,
    ],
    ['pcapng: a block header cut short', concat(good, filler(11)), 1, /header is cut short \(11 of 12 bytes\)/, at],
    [
      'pcapng: an unknown interface',
      concat(good, little.enhanced(1, 1n, frameA)),
      1,
      /of interface 1, which was not described/,
      at,
    ],
    ['pcapng: a packet before any interface', concat(little.section(), little.simple(frameA)), 0, /of interface 0/, 28],
    [
      'pcapng: a packet longer than its block',
      concat(good, little.enhanced(0, 1n, frameA, 500, 500)),
      1,
      /claims 500 captured bytes, its block has/,
      at,
    ],
    [
      'pcapng: an absurd packet',
      concat(good, little.enhanced(0, 1n, frameA, 300_000, 300_000)),
      1,
      /300000 captured bytes, more than/,
      at,
    ],
    [
      'pcapng: a simple packet longer than its block',
      concat(good, little.block(3, concat(little.u32(90), filler(20)))),
      1,
      /claims 90 captured bytes, its block has 20/,
      at,
    ],
  ];
  for (const [name, bytes, packets, message, offset] of damages) {
    it(`${name}: ${packets} packets, then the error`, () => {
      const { frames, error } = readAll(bytes);
      assert.equal(frames.length, packets);
      assert.match(error?.message ?? 'no error', message);
      assert.deepEqual(error?.details, { file: 'test.cap', offset });
    });
  }

  const blocks = [
    little.section(),
    little.interface(1),
    little.enhanced(0, 1n, frameA),
    little.block(99, filler(9)),
    little.simple(frameB),
    big.section(),
    big.interface(1),
    big.old(0, 0, 1n, frameB),
    big.enhanced(0, 1n, frameA),
  ];
  const records = [...encodePcap(frameSet, { byteOrder: 'big' })];
  for (const [name, pieces, isPacket] of [
    ['pcap', records, records.map((_, index) => index > 0)],
    ['pcapng', blocks, blocks.map((_, index) => [2, 4, 7, 8].includes(index))],
  ] as const) {
    it(`${name} cut at any byte: all whole packets, and an error unless cut between two`, () => {
      const whole = concat(...pieces);
      const boundaries = pieces.map((_, index) => concat(...pieces.slice(0, index + 1)).length);
      for (let length = 0; length <= whole.length; length += 1) {
        const { frames, error } = readAll(whole.slice(0, length));
        const packets = boundaries.filter((boundary, index) => isPacket[index] && boundary <= length).length;
        assert.equal(frames.length, packets, `cut at ${length}`);
        assert.equal(error === null, boundaries.includes(length), `cut at ${length}: ${error?.message}`);
      }
    });
  }

  it('never fails in another way, whatever the bytes', () => {
    const magics = [[], [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0], [...little.section()], [...good]];
    fc.assert(
      fc.property(fc.constantFrom(...magics), fc.uint8Array({ maxLength: 200 }), (magic, rest) => {
        const { frames } = readAll(Uint8Array.of(...magic, ...rest));
        for (const { data, wireBytes } of frames) assert.ok(data.length <= wireBytes);
      }),
      { numRuns: 2000 },
    );
  });

  it('never fails in another way, whichever byte of a good file is changed', () => {
    for (const file of [concat(...blocks), record]) {
      for (let index = 0; index < file.length; index += 1) {
        for (const value of [0, 1, 0x7f, 0xff]) {
          const changed = file.slice();
          changed[index] = value;
          readAll(changed);
        }
      }
    }
  });

  it('delivers as many packets of a damaged file as tshark does', function () {
    const missing = tsharkMissing();
    if (missing !== null) skip(this, missing);
    const directory = mkdtempSync(join(tmpdir(), 'vnic-captures-'));
    try {
      const path = join(directory, 'damaged.cap');
      const longer = frameSet.map((frame) => ({ ...frame, data: frameB, wireBytes: frameB.length }));
      const wholes = [pcap(longer), pcapng(longer)];
      for (const bytes of wholes.flatMap((whole) =>
        [100, 101, 250, whole.length - 1].map((cut) => whole.slice(0, cut)),
      )) {
        writeFileSync(path, bytes);
        assert.equal(readAll(new Uint8Array(readFileSync(path))).frames.length, tsharkFrames(path).length);
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
