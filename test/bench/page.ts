// SPDX-License-Identifier: Apache-2.0
/** `BENCH=page`: how soon the live page shows data in Chromium, and what a minute of updates leaves in it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Page } from 'playwright-core';
import { makeFlows } from '../rig/flows.ts';
import { startGenerator } from '../rig/generator.ts';
import { attachByDaemon, deviceOf } from '../rig/scenarios/daemon.ts';
import { createRig } from '../rig/topology.ts';
import { TestDaemon } from '../support/daemon.ts';
import { findChromium, inPage, WatchedBrowser } from '../support/page.ts';
import { type DistributionResult, distribution } from './distribution.ts';
import type { Part } from './part.ts';
import { notMeasured, type Result } from './result.ts';

const promised = { firstPaintMs: 1000 } as const;
const RULES = 100_000;
const FLOWS = 1000;
const RATE_PPS = 10_000;
const WARM_OPENINGS = 2;
const OPENINGS = 15;
const WATCHED_SECONDS = 60;
/** Until what the page keeps of the last minute is there. */
const SETTLE_MS = 10_000;

/**
 * Time from the beginning of the navigation to the frame that first shows a device with its AZs and queues, in ms. Said by
 * the page's own clock: what Chromium needs to open a tab is not in it.
 */
const firstData = `new Promise((resolve) => {
  const look = () => {
    const shown = document.querySelector('.az-card') !== null && /[1-9]/.test(document.querySelector('#heatmap')?.textContent ?? '');
    requestAnimationFrame(shown ? () => resolve(performance.now()) : look);
  };
  look();
})`;

async function openings(browser: WatchedBrowser, address: string): Promise<number[]> {
  const times: number[] = [];
  for (let opening = -WARM_OPENINGS; opening < OPENINGS; opening++) {
    const page = await browser.context.newPage();
    await page.goto(address, { waitUntil: 'commit' });
    const ms = await inPage<number>(page, firstData);
    await page.close();
    if (opening >= 0) times.push(ms);
  }
  return times;
}

interface Held {
  nodes: number;
  heapKiB: number;
}

async function heldBy(page: Page): Promise<Held> {
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable');
  await session.send('HeapProfiler.collectGarbage');
  const { metrics } = await session.send('Performance.getMetrics');
  await session.detach();
  const value = (name: string): number => metrics.find((metric) => metric.name === name)?.value ?? 0;
  return { nodes: value('Nodes'), heapKiB: value('JSHeapUsedSize') / 1024 };
}

async function benchPage(executable: string): Promise<DistributionResult[]> {
  using rig = createRig({ id: 'page' });
  await using daemon = await TestDaemon.start({ logLevel: 'info' });
  const url = `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}`;
  try {
    await attachByDaemon(rig, daemon);
    const rules = Array.from({ length: RULES }, (_, index) => ({
      id: index + 1,
      priority: index % 1000,
      match: { src: `10.9.${(index >> 8) & 255}.${index & 255}/32`, proto: 'tcp', dstPort: 1 + (index % 60_000) },
      action: 'drop',
    }));
    await daemon.ask('PUT', `${url}/rules`, { body: rules });
    const flows = makeFlows({ azs: rig.azs, host: rig.host, count: FLOWS });
    const generator = await startGenerator(rig, { flows, ratePps: RATE_PPS, durationMs: 300_000 });
    await using browser = await WatchedBrowser.start(executable);
    const address = `${daemon.baseUrl}/#${encodeURIComponent(deviceOf(rig))}`;
    const times = await openings(browser, address);
    const page = await browser.open(address);
    await sleep(SETTLE_MS);
    const before = await heldBy(page);
    await sleep(WATCHED_SECONDS * 1000);
    const after = await heldBy(page);
    await generator.stop();
    const watched = `Of Chromium, after ${WATCHED_SECONDS} s of updates less before, garbage collected.`;
    return [
      distribution(times, {
        name: 'first frame with data',
        unit: 'ms',
        promise: promised.firstPaintMs,
        method: `Opened ${OPENINGS} times after ${WARM_OPENINGS} on loopback in headless Chromium, a device with ${RULES} rules under ${RATE_PPS} packets/s of ${FLOWS} flows: from the navigation to the frame with AZs and queues.`,
      }),
      distribution([after.nodes - before.nodes], {
        name: 'growth, nodes',
        unit: 'nodes',
        promise: null,
        method: watched,
      }),
      distribution([after.heapKiB - before.heapKiB], {
        name: 'growth, heap',
        unit: 'KiB',
        promise: null,
        method: watched,
      }),
    ];
  } finally {
    await daemon.send('DELETE', `${url}?force=true`);
  }
}

export const pagePart: Part = {
  name: 'page',
  title: 'the live page: how soon it shows data, what a minute of updates leaves',
  digits: 0,
  inQuick: false,
  run: async () => {
    const chromium = findChromium();
    const results: Result[] =
      chromium === null
        ? [notMeasured('first frame with data', 'ms', 'chromium is not installed')]
        : await benchPage(chromium);
    return { results };
  },
};
