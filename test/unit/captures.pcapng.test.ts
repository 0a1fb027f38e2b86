// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { brief, readAll } from '../support/captures.ts';
import { udpFrame } from '../support/packet.ts';
import { concat, filler } from '../support/packet-bytes.ts';
import { PcapngBlocks } from '../support/pcapng-blocks.ts';

const little = new PcapngBlocks('little');
const big = new PcapngBlocks('big');
const frameA = udpFrame('10.0.0.1', '10.0.0.2', 1, 2);
const frameB = udpFrame('10.0.0.3', '10.0.0.4', 3, 4, 21);

describe('reading pcapng', () => {
  for (const [name, blocks] of [
    ['little', little],
    ['big', big],
  ] as const) {
    it(`reads every kind of packet block, ${name}-endian`, () => {
      const file = concat(
        blocks.section(),
        blocks.interface(1),
        blocks.interface(1, 30),
        blocks.enhanced(1, 5_000_000n, frameA, 1500),
        blocks.simple(frameB),
        blocks.old(1, 7, 6_000_000n, frameB, 77),
      );
      const { frames, error } = readAll(file);
      assert.equal(error, null);
      assert.deepEqual(frames.map(brief), [
        { timeNs: 5_000_000_000n, wireBytes: 1500, data: frameA },
        { timeNs: 5_000_000_000n, wireBytes: frameB.length, data: frameB },
        { timeNs: 6_000_000_000n, wireBytes: 77, data: frameB },
      ]);
      assert.deepEqual(
        frames.map(({ interfaceId }) => interfaceId),
        [1, 0, 1],
      );
    });
  }

  it('cuts a simple packet at the snaplen of the first interface', () => {
    const file = concat(little.section(), little.interface(1, 30), little.simple(frameB.slice(0, 30), frameB.length));
    assert.deepEqual(readAll(file).frames.map(brief), [
      { timeNs: 0n, wireBytes: frameB.length, data: frameB.slice(0, 30) },
    ]);
  });

  it('skips blocks that it does not know', () => {
    const file = concat(
      little.section(),
      little.block(0x0bad, filler(40)),
      little.interface(1),
      little.block(5, filler(24)),
      little.enhanced(0, 1n, frameA),
      little.block(0x80000bad, filler(3_000_000)),
      little.enhanced(0, 2n, frameB),
      little.block(4, new Uint8Array(0)),
    );
    const { frames, error } = readAll(file);
    assert.equal(error, null);
    assert.deepEqual(
      frames.map(({ data }) => data),
      [frameA, frameB],
    );
  });

  const second = 1_000_000_000n;
  const clocks: readonly (readonly [string, Uint8Array, bigint, bigint])[] = [
    ['microseconds by default', little.u32(0), 3_000_001n, 3n * second + 1000n],
    ['nanoseconds', little.option(9, Uint8Array.of(9)), 3_000_000_001n, 3n * second + 1n],
    ['milliseconds', little.option(9, Uint8Array.of(3)), 3001n, 3n * second + 1_000_000n],
    ['seconds', little.option(9, Uint8Array.of(0)), 3n, 3n * second],
    ['picoseconds', little.option(9, Uint8Array.of(12)), 3_000_000_002_999n, 3n * second + 2n],
    ['units of 2^-20 s', little.option(9, Uint8Array.of(0x80 | 20)), 3n << 20n, 3n * second],
    [
      'units of 2^-32 s',
      little.option(9, Uint8Array.of(0x80 | 32)),
      (3n << 32n) | (1n << 31n),
      3n * second + second / 2n,
    ],
    ['an offset in seconds', little.option(14, little.i64(100n)), 5_000_000n, 105n * second],
    [
      'a negative offset',
      concat(little.option(14, little.i64(-2n)), little.option(9, Uint8Array.of(0))),
      5n,
      3n * second,
    ],
    [
      'options of other kinds',
      concat(little.option(2, filler(5)), little.option(9, Uint8Array.of(0)), little.u32(0)),
      7n,
      7n * second,
    ],
    ['options after the end mark', concat(little.u32(0), little.option(9, Uint8Array.of(0))), 7_000_000n, 7n * second],
    ['an option that does not fit', concat(little.u16(9), little.u16(200), little.u32(0)), 7_000_000n, 7n * second],
  ];
  for (const [name, options, ticks, expected] of clocks) {
    it(`reads times: ${name}`, () => {
      const file = concat(little.section(), little.interface(1, 0, options), little.enhanced(0, ticks, frameA));
      const { frames, error } = readAll(file);
      assert.equal(error, null);
      assert.equal(frames[0]?.timeNs, expected);
    });
  }

  it('begins again with each section: byte order and interfaces', () => {
    const file = concat(
      little.section(),
      little.interface(1),
      little.enhanced(0, 1n, frameA),
      big.section(),
      big.interface(101, 0, big.option(9, Uint8Array.of(0))),
      big.enhanced(0, 2n, frameB.slice(14)),
      little.section(),
      little.interface(1),
      little.interface(1),
      little.enhanced(1, 3n, frameB),
    );
    const { frames, error } = readAll(file);
    assert.equal(error, null);
    assert.deepEqual(
      frames.map(({ linkType, timeNs, interfaceId }) => [linkType, timeNs, interfaceId]),
      [
        [1, 1000n, 0],
        [101, 2_000_000_000n, 0],
        [1, 3000n, 1],
      ],
    );
  });
});
