// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatAz, parseAz, validateAzs } from '../../src/config/azs.ts';
import { VnicLimits } from '../../src/maps/generated/abi.ts';
import { thrownBy } from '../support/thrown.ts';

const az = (bfd: unknown, name = 'az-a', queues = '0-3') => ({ name, queues, bfd });

interface Problem {
  path: string;
  message: string;
}

function problemsOf(action: () => unknown): Problem[] {
  const { code, details } = thrownBy(action);
  assert.equal(code, 'invalid_config');
  return (details as { problems: Problem[] }).problems;
}

describe('BFD peers of an AZ', () => {
  it('have defaults for all but their addresses, which are written out in one form', () => {
    assert.deepEqual(parseAz(az({ peers: ['10.1.0.2', 'FD00:A:0::2'] })).bfd, {
      peers: ['10.1.0.2', 'fd00:a::2'],
      quorum: 1,
      intervalMs: 50,
      detectMult: 3,
      multihop: false,
    });
    assert.equal(parseAz({ name: 'az-a', queues: '0' }).bfd, undefined);
  });

  it('come back the same after being written out', () => {
    const addresses = fc.uniqueArray(fc.oneof(fc.ipV4(), fc.ipV6()), { minLength: 1, maxLength: 8 });
    const settings = fc.record({
      peers: addresses,
      quorum: fc.integer({ min: 1, max: 8 }),
      interval_ms: fc.integer({ min: 5, max: 60_000 }),
      detect_mult: fc.integer({ min: 1, max: 255 }),
      multihop: fc.boolean(),
    });
    let read = 0;
    const run = fc.property(settings, (bfd) => {
      let parsed: ReturnType<typeof parseAz>;
      try {
        parsed = parseAz(az({ ...bfd, quorum: Math.min(bfd.quorum, bfd.peers.length) }));
      } catch {
        return; // an address twice, or of no host
      }
      read++;
      assert.deepEqual(parseAz(formatAz(parsed)), parsed);
      assert.equal(parsed.bfd?.peers.length, bfd.peers.length);
    });
    fc.assert(run, { numRuns: 200 });
    assert.ok(read > 20, `${read} read`);
  });

  it('that are wrong are refused, each with its place', () => {
    const peer = '10.1.0.2';
    const cases: readonly (readonly [bfd: unknown, path: string, message: RegExp])[] = [
      [{}, 'bfd.peers', /is missing/],
      [{ peers: [] }, 'bfd.peers', /at least one/],
      [{ peers: peer }, 'bfd.peers', /a list of addresses/],
      [{ peers: ['peer.example'] }, 'bfd.peers[0]', /not an IPv4 or IPv6 address/],
      [{ peers: ['10.1.0.2/32'] }, 'bfd.peers[0]', /not an IPv4 or IPv6 address/],
      [{ peers: ['10.1.0.2:3784'] }, 'bfd.peers[0]', /not an IPv4 or IPv6 address/],
      [{ peers: ['224.0.0.1'] }, 'bfd.peers[0]', /not the address of one host/],
      [{ peers: ['ff02::1'] }, 'bfd.peers[0]', /not the address of one host/],
      [{ peers: ['0.0.0.0'] }, 'bfd.peers[0]', /not the address of one host/],
      [{ peers: ['::'] }, 'bfd.peers[0]', /not the address of one host/],
      [{ peers: ['fd00::2', 'FD00:0::2'] }, 'bfd.peers[1]', /fd00::2 is named twice/],
      [{ peers: [peer, '::ffff:10.1.0.2'] }, 'bfd.peers[1]', /10\.1\.0\.2 is named twice/],
      [{ peers: [peer], quorum: 2 }, 'bfd.quorum', /quorum 2 is more than the one peer/],
      [{ peers: [peer, '10.1.0.3'], quorum: 3 }, 'bfd.quorum', /more than the 2 peers/],
      [{ peers: [peer], quorum: 0 }, 'bfd.quorum', /whole number from 1 to 32/],
      [{ peers: [peer], interval_ms: 4 }, 'bfd.interval_ms', /whole number from 5/],
      [{ peers: [peer], detect_mult: 0 }, 'bfd.detect_mult', /whole number from 1 to 255/],
      [{ peers: [peer], detect_mult: 256 }, 'bfd.detect_mult', /whole number from 1 to 255/],
      [{ peers: [peer], multihop: 'yes' }, 'bfd.multihop', /true or false/],
      [{ peers: [peer], auth: 'key' }, 'bfd', /auth/],
    ];
    for (const [bfd, path, message] of cases) {
      const problems = problemsOf(() => parseAz(az(bfd)));
      const what = JSON.stringify({ bfd, problems });
      assert.equal(problems.length, 1, what);
      assert.ok(problems[0]?.path.startsWith(path), what);
      assert.match(problems[0]?.message ?? '', message, what);
    }
  });

  it('that are in two AZs, or more than a device has sessions for, are refused', () => {
    const twice = [az({ peers: ['10.1.0.2', '10.1.0.3'] }), az({ peers: ['10.1.0.4', '10.1.0.3'] }, 'az-b', '4-7')];
    assert.deepEqual(
      problemsOf(() => validateAzs(twice.map(parseAz))).map(({ path, message }) => `${path}: ${message}`),
      ['azs[1].bfd.peers[1]: 10.1.0.3 is a peer of AZ az-a already'],
    );
    const many = (name: string, queues: string, first: number, count: number) =>
      parseAz(az({ peers: Array.from({ length: count }, (_, at) => `10.1.${first}.${at + 1}`) }, name, queues));
    const most = VnicLimits.maxBfdSessions;
    validateAzs([many('az-a', '0-3', 0, most - 10), many('az-b', '4-7', 1, 10)]);
    const [problem] = problemsOf(() => validateAzs([many('az-a', '0-3', 0, most), many('az-b', '4-7', 1, 1)]));
    assert.match(problem?.message ?? '', new RegExp(`${most + 1} BFD peers, but a device has room for ${most}`));
  });
});
