// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { benchArguments } from '../../src/cli/bench.ts';
import { readOptions } from '../bench/options.ts';
import type { Part } from '../bench/part.ts';
import { unknownBounds, withQuickBounds } from '../bench/quick-bounds.ts';
import { htmlReport, type Results, writeReport } from '../bench/report.ts';
import { isMet, notMeasured, type Result, verdictText } from '../bench/result.ts';
import { overallScore, validate } from '../bench/validation.ts';

const measured: Result = {
  name: 'redirected',
  unit: 'Mpps',
  median: 2,
  min: 1.5,
  max: 2.5,
  runs: 5,
  floor: 2.5,
  ratio: 0.8,
  ratioSpread: [0.78, 0.82],
  bound: 0.9,
  boundIs: 'least',
};

const part = (name: string, inQuick = true): Part => ({
  name,
  title: `what ${name} measures`,
  digits: 1,
  inQuick,
  run: () => ({ results: [] }),
});

const results: Results = {
  machine: { cpu: 'a <b> & c', cpus: 2 },
  versions: { kernel: '6.18', nft: null },
  parts: { live: [measured, notMeasured('32 CPUs', 'Mpps', 'there are </script> 2')] },
  plots: { live: [{ kind: 'bars', title: '</script><b>', unit: 'Mpps', bars: [{ label: 'a', value: 1 }] }] },
  validation: validate({ throughput: { achieved: 25, method: 'on the rig' } }, ['live']),
  overall_score: 1,
};

describe('a result of a benchmark', () => {
  it('is met at its bound, from the side that is promised', () => {
    assert.equal(isMet(measured), false);
    assert.equal(isMet({ ...measured, bound: 0.8 }), true);
    assert.equal(isMet({ ...measured, boundIs: 'most' }), true);
    assert.equal(isMet({ ...measured, bound: null }), null);
    assert.equal(verdictText(measured), '>= 0.9 MISSED');
  });

  it('is missed when something is promised that was not measured, or is not a number', () => {
    assert.equal(isMet({ ...notMeasured('a', 'ns', 'why'), bound: 3 }), false);
    for (const boundIs of ['most', 'least'] as const) assert.equal(isMet({ ...measured, boundIs, ratio: NaN }), false);
  });
});

describe('the validation of a benchmark run', () => {
  it('says of each target what was achieved, and 1 and above is met whichever way is better', () => {
    const { throughput, latency_p99: latency } = validate(
      { throughput: { achieved: 25, method: 'm' }, latency_p99: { achieved: 10, method: 'm' } },
      ['live', 'latency'],
    );
    assert.deepEqual([throughput.target, throughput.ratio, throughput.met], [20, 1.25, true]);
    assert.deepEqual([latency.target, latency.ratio, latency.met], [5, 0.5, false]);
  });

  it('states what was not measured instead of counting it', () => {
    const validation = validate({ throughput: { achieved: 10, method: 'm' } }, ['live']);
    assert.equal(validation.scrape_p99.met, null);
    assert.match(validation.scrape_p99.method, /part scrape was not run/);
    assert.match(validation.queues.method, /part topologies was not run/);
    assert.equal(overallScore(validation), 0.5);
    assert.equal(overallScore(validate({}, [])), null);
  });

  it('gives no more than the whole for a target that is exceeded', () => {
    const more = validate({ throughput: { achieved: 80, method: 'm' }, queues: { achieved: 16, method: 'm' } }, []);
    assert.equal(overallScore(more), 0.75);
  });
});

describe('the report of a benchmark run', () => {
  it('is one page that loads nothing and that no text of the data breaks out of', () => {
    const html = htmlReport(results, [part('live')]);
    assert.doesNotMatch(html, /<(?:script|link|img)[^>]*(?:src|href)=/);
    // Chart.js, the data, and what draws it.
    assert.equal(html.split('</script').length - 1, 3);
    assert.ok(html.includes('a &#60;b&#62; &#38; c'));
    assert.ok(html.includes('≥ 0.9 missed'));
    assert.ok(html.includes('not measured: there are &#60;/script&#62; 2'));
  });

  it('lies beside results.json, or beside the JSON file that was asked for', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'vnic-report-'));
    try {
      const inFolder = writeReport(results, [part('live')], folder);
      const named = writeReport(results, [part('live')], path.join(folder, 'mine.json'));
      assert.deepEqual(
        [...inFolder, ...named].map((file) => path.basename(file)),
        ['results.json', 'report.html', 'mine.json', 'mine.html'],
      );
      assert.deepEqual(JSON.parse(readFileSync(named[0]!, 'utf8')), results);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe('the options of a benchmark run', () => {
  const known = [part('packet'), part('failover', false)];

  it('runs every part, or those that are named, or the short ones', () => {
    assert.deepEqual(readOptions([], {}, known).parts, ['packet', 'failover']);
    assert.deepEqual(readOptions(['failover,packet'], {}, known).parts, ['packet', 'failover']);
    assert.deepEqual(readOptions([], { QUICK: '1' }, known).parts, ['packet']);
    assert.deepEqual(readOptions(['failover', '--quick'], {}, known).parts, ['failover']);
  });

  it('runs what takes very long only where it is named', () => {
    const withSoak = [...known, { ...part('soak', false), onlyWhenNamed: true }];
    assert.deepEqual(readOptions([], {}, withSoak).parts, ['packet', 'failover']);
    assert.deepEqual(readOptions([], { QUICK: '1' }, withSoak).parts, ['packet']);
    assert.deepEqual(readOptions(['soak'], {}, withSoak).parts, ['soak']);
  });

  it('refuses what it does not know before anything is measured', () => {
    assert.throws(() => readOptions(['speed'], {}, known), /no benchmark speed; there are packet, failover/);
    assert.throws(() => readOptions(['--seconds', '0'], {}, known), /--seconds is a number from 1 to 3600/);
  });
});

describe('the bounds of the short form', () => {
  const limit: Result = { ...measured, name: '64 bytes: limit of each source', bound: 4, boundIs: 'least' };

  it('stand in for the promises, and what has none is only told', () => {
    const [judged, told] = withQuickBounds([{ ...limit, ratio: 1.5 }, measured]);
    assert.deepEqual([isMet(judged!), isMet(told!)], [true, null]);
    assert.equal(isMet(withQuickBounds([{ ...limit, ratio: 0.1 }])[0]!), false);
    assert.equal(isMet(withQuickBounds([{ ...notMeasured(limit.name, 'Mpps', 'no nft'), bound: 4 }])[0]!), null);
  });

  it('are missed by nobody who renames a case', () => {
    assert.ok(unknownBounds(new Set()).includes(limit.name));
    assert.ok(!unknownBounds(new Set([limit.name])).includes(limit.name));
  });
});

describe('vnicctl bench', () => {
  it('hands the original options on, with names of its own for parts', () => {
    const args = benchArguments({ tests: 'latency, packet', duration: 5, output: '/tmp/mine.json' });
    assert.deepEqual(args, ['latency', 'packet', '--seconds', '5', '--output', '/tmp/mine.json']);
    assert.deepEqual(benchArguments({ tests: 'all', output: '/tmp/x', quick: true }), [
      '--output',
      '/tmp/x',
      '--quick',
    ]);
  });
});
