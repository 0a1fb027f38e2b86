// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { readCapture } from '../../src/captures/read.ts';
import { writeCapture, writePcap } from '../../src/captures/write.ts';
import { asRead, brief, frameSet, pcap, pcapng, readAll } from '../support/captures.ts';
import { filler } from '../support/packet-bytes.ts';
import { skip } from '../support/skip.ts';
import { tsharkMissing } from '../support/tshark.ts';

describe('reading captures', () => {
  let directory = '';
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'vnic-captures-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  for (const resolution of ['microseconds', 'nanoseconds'] as const) {
    for (const byteOrder of ['little', 'big'] as const) {
      it(`reads pcap, ${resolution}, ${byteOrder}-endian`, () => {
        const path = join(directory, 'a.pcap');
        writePcap(path, frameSet, { resolution, byteOrder });
        assert.deepEqual([...readCapture(path)].map(brief), asRead(frameSet));
      });
    }
  }

  it('reads the pcapng that it writes, with interfaces and nanoseconds', () => {
    const path = join(directory, 'a.pcapng');
    const frames = frameSet.map((frame, index) => ({ ...frame, timeNs: frame.timeNs + 1n, interfaceId: index % 2 }));
    writeCapture(path, frames, [{ name: 'eth0' }, { name: 'eth01', snaplenBytes: 9000 }]);
    const read = [...readCapture(path)];
    assert.deepEqual(read.map(brief), asRead(frames));
    assert.deepEqual(
      read.map(({ interfaceId }) => interfaceId),
      [0, 1, 0, 1, 0],
    );
  });

  it('keeps any packets, in pcap and in pcapng', () => {
    const anyFrame = fc.record({
      timeNs: fc.bigInt(0n, (1n << 32n) * 1_000_000_000n - 1n),
      data: fc.uint8Array({ maxLength: 300 }),
      missing: fc.nat(100_000),
    });
    fc.assert(
      fc.property(fc.array(anyFrame, { maxLength: 20 }), fc.constantFrom('little', 'big'), (drawn, byteOrder) => {
        const frames = drawn.map(({ timeNs, data, missing }) => ({ timeNs, data, wireBytes: data.length + missing }));
        assert.deepEqual(readAll(pcap(frames, { byteOrder })).frames.map(brief), asRead(frames));
        assert.deepEqual(readAll(pcapng(frames)).frames.map(brief), asRead(frames));
      }),
    );
  });

  it('reads a large file front to back, at most 1 MiB of it at a time', () => {
    const path = join(directory, 'large.pcap');
    const data = filler(1400);
    writePcap(
      path,
      (function* () {
        for (let index = 0; index < 20_000; index += 1) yield { timeNs: BigInt(index), data };
      })(),
    );
    let next = 0n;
    for (const { timeNs, data: read } of readCapture(path)) {
      assert.equal(timeNs, next);
      assert.ok(read.buffer.byteLength <= 1 << 20, 'more than 1 MiB at a time');
      if (next % 97n === 0n) assert.deepEqual(read, data);
      next += 1n;
    }
    assert.equal(next, 20_000n);
    assert.equal(statSync(path).size, 24 + 20_000 * 1416);
  });

  it('keeps a packet that was read intact while later ones are read', () => {
    const frames = Array.from({ length: 3000 }, (_, index) => ({ timeNs: 0n, data: filler(1000 + (index % 7)) }));
    const read = readAll(pcapng(frames)).frames;
    assert.deepEqual(read.map(brief), asRead(frames));
  });

  it('lets the reader stop early', () => {
    const path = join(directory, 'early.pcap');
    writePcap(path, frameSet);
    for (const frame of readCapture(path)) {
      assert.equal(frame.timeNs, frameSet[0]!.timeNs);
      break;
    }
  });

  it('cuts a packet that holds more than it had on the wire', () => {
    const [frame] = readAll(pcap([{ timeNs: 0n, data: filler(60), wireBytes: 40 }])).frames;
    assert.deepEqual(frame?.data, filler(60).slice(0, 40));
  });

  it('reads what editcap makes of the same packets', function () {
    const missing = tsharkMissing();
    if (missing !== null) skip(this, missing);
    const from = join(directory, 'from.pcapng');
    const to = join(directory, 'to.cap');
    writeCapture(from, frameSet);
    for (const format of ['pcap', 'nsecpcap', 'pcapng']) {
      execFileSync('editcap', ['-F', format, from, to], { stdio: 'pipe' });
      assert.deepEqual([...readCapture(to)].map(brief), asRead(frameSet), format);
    }
  });

  it('says which file is missing', () => {
    assert.throws(() => [...readCapture(join(directory, 'none.pcap'))], { code: 'not_found', message: /none\.pcap/ });
  });

  it('says that a folder cannot be read', () => {
    assert.throws(() => [...readCapture(directory)], { code: 'failed', message: /EISDIR/ });
  });
});
