// SPDX-License-Identifier: Apache-2.0
/** What scraping costs: the daemon's time, the packets' nothing; and what a daemon costs that nobody asks anything. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { setUrgency, type Urgency } from '../../../src/loader/scheduling.ts';
import type { TestDaemon } from '../../support/daemon.ts';
import { attachChecker } from '../checker.ts';
import { makeFlows } from '../flows.ts';
import { startGenerator } from '../generator.ts';
import type { Rig } from '../topology.ts';
import { seriesIn } from './daemon.ts';
import { ScrapeClient } from './scrape-client.ts';

/** Time that the threads of a process were on a CPU so far (Documentation/scheduler/sched-stats.rst), in ms. */
export function cpuMs(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).reduce(
    (sum, task) => sum + Number(readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ')[0]) / 1e6,
    0,
  );
}

/** Share of one core that a process uses for so long, in %. */
export async function cpuShare(pid: number, seconds: number): Promise<number> {
  const [before, start] = [cpuMs(pid), performance.now()];
  await sleep(seconds * 1000);
  return (100 * (cpuMs(pid) - before)) / (performance.now() - start);
}

/** Who scrapes is elsewhere: here it shares the CPUs, and must not be what is waited for. */
const scraper: Urgency = { nice: -20, sliceNs: 100_000 };
const anyThread: Urgency = { nice: 0, sliceNs: 3_000_000 };

export interface ScrapeOptions {
  flows: number;
  ratePps: number;
  /** 0: nobody scrapes. */
  scrapesPerSecond: number;
  seconds: number;
}

export interface ScrapeRun {
  /** Each scrape, from the request to the last byte of its answer. */
  scrapeMs: number[];
  series: number;
  /** Of the daemon, over the run. */
  cpuMs: number;
  elapsedMs: number;
  packetsPerSecond: number;
  lost: number;
  reordered: number;
}

/** Scrapes at a fixed rate, whether the one before was answered quickly or not, while every packet is watched. */
export async function scrapeUnderLoad(rig: Rig, daemon: TestDaemon, options: ScrapeOptions): Promise<ScrapeRun> {
  const { scrapesPerSecond, seconds } = options;
  const flows = makeFlows({ azs: rig.azs, host: rig.host, count: options.flows });
  using checker = attachChecker(rig, { flows });
  const durationMs = seconds * 1000 + 60_000;
  const generator = await startGenerator(rig, { flows, ratePps: options.ratePps, durationMs });
  using client = await ScrapeClient.connect(daemon.socket);
  const scrapeMs: number[] = [];
  let series = 0;
  // Not before: the generator's process would have it too.
  setUrgency(rig.native, scraper);
  const [before, start] = [cpuMs(daemon.pid), performance.now()];
  for (let count = 0; count < seconds * scrapesPerSecond; count++) {
    const dueMs = start + (count * 1000) / scrapesPerSecond - performance.now();
    if (dueMs > 0) await sleep(dueMs);
    const { ms, body } = await client.scrape();
    scrapeMs.push(ms);
    if (series === 0) series = seriesIn(body.toString());
  }
  await sleep(Math.max(0, start + seconds * 1000 - performance.now()));
  const [used, elapsedMs] = [cpuMs(daemon.pid) - before, performance.now() - start];
  setUrgency(rig.native, anyThread);
  const sent = await generator.stop();
  await checker.settled(sent.sent);
  const { lost, reordered } = checker.report(sent.sentByFlow);
  return {
    scrapeMs,
    series,
    cpuMs: used,
    elapsedMs,
    packetsPerSecond: (sent.sent * 1000) / sent.elapsedMs,
    lost,
    reordered,
  };
}
