// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { stripVTControlCharacters } from 'node:util';
import { cut } from '../../src/cli/output.ts';
import { quantilesBetween, type TopView } from '../../src/cli/top-model.ts';
import { filterFlows, heatLine } from '../../src/cli/top-text.ts';

const none = { count: 0, meanNs: null, p50Ns: null, p90Ns: null, p99Ns: null, p999Ns: null };

describe('what vnicctl top shows', () => {
  it('are percentiles of what came between two refreshes', () => {
    const before = { ...none, buckets: [{ upToNs: 100, count: 1000 }] };
    const after = {
      ...none,
      buckets: [
        { upToNs: 100, count: 1000 },
        { upToNs: 200, count: 90 },
        { upToNs: 900, count: 10 },
      ],
    };
    assert.deepEqual(quantilesBetween(before, after), {
      count: 100,
      p50Ns: 200,
      p90Ns: 200,
      p99Ns: 900,
      p999Ns: 900,
    });
    assert.equal(quantilesBetween(after, after).p50Ns, null);
  });

  it('is a character a queue: idle, lost, and by its load', () => {
    const rates = [0, 1, 50, 100].map((packetsPerSecond) => ({ packetsPerSecond, usable: true }));
    const line = heatLine([...rates, { packetsPerSecond: 5, usable: false }]);
    assert.equal(stripVTControlCharacters(line), '·▁▅█x');
  });

  it('is cut to the columns of the terminal, colours not counted, and they end', () => {
    assert.equal(cut('abcdef', 6), 'abcdef');
    assert.equal(cut('abcdef', 3), 'abc');
    assert.equal(cut('\x1b[31mabcdef\x1b[39m', 3), '\x1b[31mabc\x1b[39m\x1b[0m');
  });

  it('are the flows that have every word of the filter', () => {
    const flow = {
      direction: 'ingress' as const,
      proto: 17,
      az: 'az-a',
      rule: 7,
      queue: 3,
    };
    const flows = [
      { ...flow, src: '10.1.0.5', srcPort: 1000, dst: '10.9.0.1', dstPort: 53 },
      { ...flow, src: 'fd00::5', srcPort: 1000, dst: 'fd00::1', dstPort: 443, proto: 6, az: null, rule: null },
    ] as unknown as TopView['flows'];
    const found = (filter: string) => filterFlows(flows, filter).map(({ dstPort }) => dstPort);
    assert.deepEqual(found(''), [53, 443]);
    assert.deepEqual(found(' :53 UDP'), [53]);
    assert.deepEqual(found('[fd00::1]'), [443]);
    assert.deepEqual(found('rule 7'), [53]);
    assert.deepEqual(found('tcp az-a'), []);
  });
});
