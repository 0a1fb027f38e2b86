// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { stripVTControlCharacters } from 'node:util';
import { quantilesBetween } from '../../src/cli/top-model.ts';
import { cut, heatLine } from '../../src/cli/top-text.ts';

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
});
