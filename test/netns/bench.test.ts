// SPDX-License-Identifier: Apache-2.0
/** `vnicctl bench` as a user runs it, and its page as a browser shows it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Results } from '../bench/report.ts';
import { isMissed } from '../bench/run-part.ts';
import { vnicctl } from '../support/cli.ts';
import { findChromium, inPage, WatchedBrowser } from '../support/page.ts';
import { skip } from '../support/skip.ts';

describe('vnicctl bench', function () {
  this.timeout(180_000);
  const folder = mkdtempSync(path.join(tmpdir(), 'vnic-bench-'));
  const json = path.join(folder, 'mine.json');
  const bench = (...args: string[]) => spawnSync(vnicctl, ['bench', ...args], { encoding: 'utf8' });

  after(() => rmSync(folder, { recursive: true, force: true }));

  it('runs the parts that are named and leaves what was achieved of each target', () => {
    const options = ['--target', 'rig', '--duration', '1', '--tests', 'topologies,latency,ffi', '--output', json];
    const { status, stdout, stderr } = bench(...options, '--quick');
    assert.match(stdout, /^Written: /m, stdout + stderr);
    const { machine, parts, validation, overall_score: score } = JSON.parse(readFileSync(json, 'utf8')) as Results;
    assert.deepEqual(Object.keys(parts), ['topologies', 'latency', 'ffi']);
    for (const cost of ['page_fault_ns', 'thread_handover_us'])
      assert.ok(Number(machine[cost]) > 0, `${cost}: ${machine[cost]}`);
    // Whether this machine keeps the bounds is for the benchmark to say, not for this test.
    const missed = Object.values(parts).flat().filter(isMissed);
    assert.equal(status, missed.length === 0 ? 0 : 1, stdout + stderr);
    assert.equal(stderr, '');
    assert.deepEqual(Object.keys(validation), [
      'throughput',
      'latency_p99',
      'continuity',
      'cache_pressure',
      'scrape_p99',
      'queues',
    ]);
    const { queues, latency_p99: latency, throughput } = validation;
    assert.deepEqual([queues?.achieved, queues?.ratio, queues?.met], [32, 1, true]);
    assert.ok(latency !== undefined && latency.achieved !== null && latency.achieved > 0);
    assert.equal(latency.met, latency.achieved <= latency.target);
    assert.deepEqual([throughput?.achieved, throughput?.met], [null, null]);
    assert.ok(score !== null && score > 0 && score <= 1);
  });

  it('refuses what it cannot measure before it begins', () => {
    const elsewhere = bench('--target', 'eth0');
    assert.equal(elsewhere.status, 2);
    assert.match(elsewhere.stderr, /eth0.*Allowed choices are rig/);
    assert.equal(bench('--tests', 'speed').status, 2);
    assert.equal(bench('--duration', '0').status, 2);
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    it(`leaves a page that a browser shows in ${colorScheme} colours, every plot of it`, async function () {
      const chromium = findChromium();
      if (chromium === null) skip(this, 'chromium is not installed');
      await using browser = await WatchedBrowser.start(chromium, { colorScheme });
      const url = pathToFileURL(path.join(folder, 'mine.html')).href;
      const page = await browser.open(url);
      // How many colours a plot has: one that is blank has none but the page's.
      const colours = await inPage<number[]>(
        page,
        `[...document.querySelectorAll('canvas[data-plot]')].map((canvas) => {
          const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        })`,
      );
      assert.equal(colours.length, 3, 'two of the queues and one of latency');
      for (const count of colours) assert.ok(count > 10, `a plot has ${count} colours`);
      const isWide = 'document.documentElement.scrollWidth > document.documentElement.clientWidth';
      assert.equal(await inPage<boolean>(page, isWide), false, 'it is wider than the window');
      assert.deepEqual(browser.requests, [url]);
      assert.deepEqual(browser.complaints, []);
    });
  }
});
