// SPDX-License-Identifier: Apache-2.0
/** A daemon with traffic that is scraped for long: what its memory does. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TestDaemon } from '../../support/daemon.ts';
import { attachChecker } from '../checker.ts';
import { makeFlows } from '../flows.ts';
import { startGenerator } from '../generator.ts';
import type { Rig } from '../topology.ts';
import { scrape } from './daemon.ts';

/** Memory of a process, in MiB. */
export interface ProcessMemory {
  /** All that is resident. */
  resident: number;
  /** Of that, what is its own: heaps, stacks, what native code allocated. */
  anonymous: number;
  /** Of that, pages of BPF maps: memory of the kernel, which is there whether it is mapped or not. */
  maps: number;
}

export function readMemory(pid: number): ProcessMemory {
  let resident = 0;
  let anonymous = 0;
  let maps = 0;
  let isMap = false;
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const [name = '', kilobytes = ''] = line.split(/:?\s+/, 2);
    if (/^[0-9a-f]+-[0-9a-f]+$/.test(name)) isMap = line.endsWith('anon_inode:bpf-map');
    const mebibytes = Number(kilobytes) / 1024;
    if (name === 'Rss') resident += mebibytes;
    if (name === 'Rss' && isMap) maps += mebibytes;
    if (name === 'Anonymous') anonymous += mebibytes;
  }
  return { resident, anonymous, maps };
}

export interface SoakOptions {
  /** How long memory is watched. */
  seconds: number;
  scrapesPerSecond: number;
  flows: number;
  ratePps: number;
  /** How often memory is read, in seconds. */
  everySeconds: number;
  onSample?: (sample: SoakSample) => void;
}

export interface SoakSample extends ProcessMemory {
  seconds: number;
  scrapes: number;
}

export interface SoakResult {
  samples: SoakSample[];
  /** Of each scrape. */
  scrapeMs: number[];
  /** Packets. */
  lost: number;
}

/** The rig's device is attached by the daemon. */
export async function soak(rig: Rig, daemon: TestDaemon, options: SoakOptions): Promise<SoakResult> {
  const { seconds, scrapesPerSecond, everySeconds, onSample } = options;
  const flows = makeFlows({ azs: rig.azs, host: rig.host, count: options.flows });
  const durationMs = seconds * 1000 + 60_000;
  // It takes the packets from the host, which would answer each with an ICMP error.
  using checker = attachChecker(rig, { flows });
  const generator = await startGenerator(rig, { flows, ratePps: options.ratePps, durationMs, tickMs: 10 });
  const samples: SoakSample[] = [];
  const scrapeMs: number[] = [];
  const start = performance.now();
  let sampleAt = 0;
  for (;;) {
    const elapsed = (performance.now() - start) / 1000;
    if (elapsed >= sampleAt) {
      const sample = { seconds: elapsed, scrapes: scrapeMs.length, ...readMemory(daemon.pid) };
      samples.push(sample);
      onSample?.(sample);
      sampleAt += everySeconds;
    }
    if (elapsed >= seconds) break;
    scrapeMs.push((await scrape(daemon)).ms);
    const dueMs = start + (scrapeMs.length * 1000) / scrapesPerSecond - performance.now();
    if (dueMs > 0) await sleep(dueMs);
  }
  const sent = await generator.stop();
  await checker.settled(sent.sent);
  return { samples, scrapeMs, lost: checker.report(sent.sentByFlow).lost };
}

/**
 * How much a process grew: the least anonymous memory in the last third of the time over that in the third before it. Of a
 * heap that is collected now and then the least values are what is kept. MiB.
 */
export function growthOf(samples: readonly SoakSample[]): number {
  const third = Math.floor(samples.length / 3);
  const least = (from: number, to: number): number =>
    Math.min(...samples.slice(from, to).map(({ anonymous }) => anonymous));
  return least(samples.length - third, samples.length) - least(samples.length - 2 * third, samples.length - third);
}
