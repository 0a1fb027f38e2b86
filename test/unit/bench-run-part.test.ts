// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { loadNative } from '../../src/loader/ffi/index.ts';
import type { BenchContext, Part, PartOutput } from '../bench/part.ts';
import type { Result } from '../bench/result.ts';
import { isMissed, runPart } from '../bench/run-part.ts';

/** Of two that have bounds in the short form. */
const [hot, many] = ['from IPv4 to IPv6, hot flow', 'from 1 to 100,000 rules'] as const;

function result(name: string, ratio: number): Result {
  const one = { name, unit: 'ns', median: 1, min: 1, max: 1, runs: 1, floor: 1, ratio, bound: null };
  return { ...one, ratioSpread: [ratio, ratio] };
}

describe('a part of a benchmark run', () => {
  const context = (quick: boolean): BenchContext => ({ native: loadNative(), root: '/', quick, seconds: null });

  /** Each run gives the next of these. */
  function partOf(...outputs: (Error | PartOutput)[]): Part & { runs: number } {
    const part = {
      name: 'packet',
      title: '',
      digits: 1,
      runs: 0,
      run: (): PartOutput => {
        const output = outputs[part.runs++] ?? new Error('it was run too often');
        if (output instanceof Error) throw output;
        return output;
      },
    };
    return part;
  }

  it('that breaks off says why and is missed, and does not end the run', async () => {
    const { results } = await runPart(partOf(new Error('3 packets lost')), context(false));
    assert.deepEqual(
      results.map(({ name, median, reason }) => [name, median, reason]),
      [['packet, all of it', null, 'it broke off: 3 packets lost']],
    );
    assert.ok(results.every(isMissed));
  });

  it('is run once more in the short form when it broke off or missed a bound, and not otherwise', async () => {
    const good = { results: [result(hot, 1), result(many, 1)] };
    const met = partOf(good);
    assert.equal((await runPart(met, context(true))).results.filter(isMissed).length, 0);
    assert.equal(met.runs, 1);
    const once = partOf(new Error('busy'), good);
    assert.equal((await runPart(once, context(true))).results.filter(isMissed).length, 0);
    assert.equal(once.runs, 2);
    const twice = partOf(new Error('busy'), new Error('broken'));
    const { results } = await runPart(twice, context(true));
    assert.deepEqual(
      results.filter(isMissed).map(({ reason }) => reason),
      ['it broke off: broken'],
    );
  });

  it('misses what it misses twice, and nothing that it met the first time', async () => {
    const part = partOf(
      { results: [result(hot, 1e6), result(many, 1)] },
      { results: [result(hot, 1e6), result(many, 1e6)] },
    );
    const { results } = await runPart(part, context(true));
    assert.deepEqual(
      results.filter(isMissed).map(({ name }) => name),
      [hot],
    );
  });
});
