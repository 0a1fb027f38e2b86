// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { captureSet, writeCaptureSet } from '../support/capture-set.ts';
import { referenceParse, resultText } from '../support/reference-parser.ts';
import { skip } from '../support/skip.ts';
import { tsharkFrames, tsharkMissing } from '../support/tshark.ts';

/** All but headers_in_frags, which only a frame of several buffers can give. */
const reasons = [
  'not_ip',
  'truncated_ethernet',
  'truncated_vlan',
  'vlan_depth',
  'truncated_ipv4',
  'bad_ipv4_version',
  'bad_ihl',
  'bad_ipv4_length',
  'truncated_ipv6',
  'bad_ipv6_version',
  'bad_ipv6_length',
  'truncated_extension',
  'extension_depth',
  'truncated_l4',
  'bad_tcp_offset',
  'bad_udp_length',
];

describe('the capture set', () => {
  for (const { theme, name, expect, byHand } of captureSet) {
    if (byHand === undefined) continue;
    it(`${theme}: ${name}: ${byHand}`, () => assert.equal(resultText(expect), byHand));
  }

  it('has every reason for which a frame can have no flow', () => {
    const seen = new Set(captureSet.map(({ expect }) => ('unparsed' in expect ? expect.unparsed : 'parsed')));
    assert.deepEqual([...seen].sort(), [...reasons, 'parsed'].sort());
  });

  it('has every case once, none longer than it was on the wire', () => {
    const names = captureSet.map(({ theme, name }) => `${theme}: ${name}`);
    assert.equal(new Set(names).size, names.length);
    for (const { name, frame, wireBytes } of captureSet) assert.ok(frame.length <= wireBytes, name);
  });

  it('never gives a cut frame a flow that the whole frame does not have', () => {
    const wholes = new Map<string, Set<string>>();
    for (const { theme, name, frame, wireBytes, expect } of captureSet) {
      if (theme !== 'cut-by-the-capture' || 'unparsed' in expect) continue;
      assert.ok(frame.length < wireBytes);
      const stack = name.slice(0, name.lastIndexOf(':'));
      wholes.set(stack, (wholes.get(stack) ?? new Set()).add(resultText(expect)));
    }
    assert.ok(wholes.size > 10);
    for (const [stack, flows] of wholes) assert.equal(flows.size, 1, stack);
  });
});

describe('the reference parser', () => {
  it('gives a flow or a known reason for any bytes', () => {
    const start = fc.constantFrom([0x08, 0x00, 0x45], [0x86, 0xdd, 0x60], [0x81, 0x00, 0], [0x88, 0xa8, 0], [0, 0, 0]);
    const frames = fc.tuple(start, fc.uint8Array({ maxLength: 120 }), fc.nat(200));
    fc.assert(
      fc.property(frames, ([head, rest, missing]) => {
        const frame = Uint8Array.of(...new Uint8Array(12), ...head, ...rest);
        const result = referenceParse(frame, frame.length + missing);
        if ('unparsed' in result) assert.ok(reasons.includes(result.unparsed), result.unparsed);
        else assert.ok(result.src.length === 16 && result.dst.length === 16 && result.sport <= 0xffff);
      }),
      { numRuns: 3000 },
    );
  });

  it('agrees with tshark on every well-formed frame', function () {
    const missing = tsharkMissing();
    if (missing !== null) skip(this, missing);
    const directory = mkdtempSync(join(tmpdir(), 'vnic-captures-'));
    try {
      let compared = 0;
      for (const { theme, path, cases } of writeCaptureSet(directory)) {
        const frames = tsharkFrames(path);
        assert.equal(frames.length, cases.length, `${theme}: number of packets`);
        cases.forEach(({ name, expect, wireBytes, wellFormed }, index) => {
          const theirs = frames[index]!;
          assert.equal(theirs.wireBytes, wireBytes, `${theme}: ${name}: bytes`);
          if (!wellFormed) return;
          const ours = 'unparsed' in expect ? 'no flow' : resultText(expect);
          assert.equal(ours, theirs.flow === null ? 'no flow' : resultText(theirs.flow), `${theme}: ${name}`);
          compared += 1;
        });
      }
      assert.ok(compared > 120, `${compared} frames compared`);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
