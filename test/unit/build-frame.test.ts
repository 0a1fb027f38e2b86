// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { buildFrame } from '../../src/captures/build-frame.ts';
import { parseAddress } from '../../src/steering/rules/prefix.ts';
import { hasPorts } from '../../src/steering/rules/protocols.ts';
import { referenceParse } from '../support/reference-parser.ts';
import { thrownBy } from '../support/thrown.ts';

const v4 = { src: parseAddress('10.1.0.5'), dst: parseAddress('10.2.0.6') };
const v6 = { src: parseAddress('fd00:a::5'), dst: parseAddress('fd00:b::6') };

/** Extension headers are no protocol of their own: what follows them is. */
const extensions = new Set([0, 43, 44, 51, 60, 135, 139, 140]);

const spec = fc.record({
  addresses: fc.constantFrom(v4, v6),
  srcPort: fc.nat(65_535),
  dstPort: fc.nat(65_535),
  proto: fc.integer({ min: 0, max: 255 }).filter((proto) => !extensions.has(proto)),
  extraBytes: fc.nat(3000),
});

describe('a frame to ask about', () => {
  it('is read by the reference parser as the flow that it was built for, at any length', () => {
    fc.assert(
      fc.property(spec, ({ addresses, srcPort, dstPort, proto, extraBytes }) => {
        const least = buildFrame({ ...addresses, srcPort, dstPort, proto });
        const frame = buildFrame({ ...addresses, srcPort, dstPort, proto, frameBytes: least.length + extraBytes });
        assert.equal(frame.length, least.length + extraBytes);
        const ports = hasPorts(proto) ? { sport: srcPort, dport: dstPort } : { sport: 0, dport: 0 };
        for (const bytes of [least, frame]) {
          const flow = referenceParse(bytes);
          if ('unparsed' in flow) assert.fail(flow.unparsed);
          assert.deepEqual(
            { ...flow, src: [...flow.src], dst: [...flow.dst] },
            {
              src: [...addresses.src],
              dst: [...addresses.dst],
              ...ports,
              proto,
            },
          );
        }
      }),
    );
  });

  it('has a right IPv4 header checksum (RFC 1071: all words add up to ffff)', () => {
    const frame = buildFrame({ ...v4, srcPort: 1, dstPort: 2, proto: 17, frameBytes: 1514 });
    const view = new DataView(frame.buffer, 14, 20);
    let sum = 0;
    for (let offset = 0; offset < 20; offset += 2) sum += view.getUint16(offset);
    assert.equal((sum & 0xffff) + (sum >>> 16), 0xffff);
    assert.equal(view.getUint16(2), 1500);
  });

  it('is refused for two address families and for a length that does not hold its headers', () => {
    const ports = { srcPort: 1, dstPort: 2, proto: 6 };
    assert.equal(thrownBy(() => buildFrame({ src: v4.src, dst: v6.dst, ...ports })).code, 'usage');
    assert.equal(thrownBy(() => buildFrame({ ...v4, ...ports, frameBytes: 53 })).code, 'usage');
    assert.equal(buildFrame({ ...v4, ...ports, frameBytes: 54 }).length, 54);
    assert.equal(thrownBy(() => buildFrame({ ...v6, ...ports, frameBytes: 70_000 })).code, 'usage');
  });
});
