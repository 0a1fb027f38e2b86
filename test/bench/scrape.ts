// SPDX-License-Identifier: Apache-2.0
/** `BENCH=scrape`: what a scrape takes and costs under load, what an idle daemon costs, how the flow table is walked. */
import { setTimeout as sleep } from 'node:timers/promises';
import { attachByDaemon, deviceOf, scrape } from '../rig/scenarios/daemon.ts';
import { cpuShare, type ScrapeRun, scrapeUnderLoad } from '../rig/scenarios/scrape.ts';
import { readMemory } from '../rig/scenarios/soak.ts';
import { createRig, type Rig } from '../rig/topology.ts';
import { TestDaemon } from '../support/daemon.ts';
import { type DistributionResult, distribution } from './distribution.ts';
import { benchFlowWalk } from './flow-walk.ts';
import { quantile } from './measure.ts';
import type { Part, PartOutput } from './part.ts';

/** 120 MB of 10^6 bytes, in MiB. */
export const promisedMemoryMiB = 120e6 / 2 ** 20;
const promised = { scrapeMs: 5, ratePps: 500_000, idlePercent: 1 } as const;
const ASKED_PPS = 530_000;
const FLOWS = 10_000;
const SCRAPES_PER_SECOND = 10;
/** The first ones compile what they run. */
const WARM_SCRAPES = 100;
const ROUNDS = 3;
const IDLE_SECONDS = 5;
/** A daemon that has started gives back memory and compiles for some seconds. */
const SETTLE_MS = 15_000;

interface Round {
  /** Nobody scrapes, then somebody does: under the same traffic. */
  without: ScrapeRun;
  scraped: ScrapeRun;
}

async function measureRounds(rig: Rig, daemon: TestDaemon, seconds: number): Promise<Round[]> {
  const run = (scrapesPerSecond: number): Promise<ScrapeRun> =>
    scrapeUnderLoad(rig, daemon, { flows: FLOWS, ratePps: ASKED_PPS, scrapesPerSecond, seconds });
  for (let warm = 0; warm < WARM_SCRAPES; warm++) await scrape(daemon);
  const rounds: Round[] = [];
  for (let round = 0; round < ROUNDS; round++)
    rounds.push({ without: await run(0), scraped: await run(SCRAPES_PER_SECOND) });
  return rounds;
}

/** CPU time beyond what the daemon uses without scrapes, for each. */
function cpuMsPerScrape({ without, scraped }: Round): number {
  const unasked = (without.cpuMs / without.elapsedMs) * scraped.elapsedMs;
  return (scraped.cpuMs - unasked) / scraped.scrapeMs.length;
}

function scrapeResults(rounds: readonly Round[], seconds: number): DistributionResult[] {
  const { series } = rounds[0]!.scraped;
  const pace = `${SCRAPES_PER_SECOND} scrapes a second over the Unix socket, of a device with 32 queues (${series} series), ${ROUNDS} times ${seconds} s, in turn with as long without scrapes, under ${FLOWS} flows`;
  const timed = `${pace}; from the request to the last byte of the answer, by a client on the same CPUs as generator, CPUMAP threads and daemon, which has nice -20 because a scraper is on another machine.`;
  const counted =
    'Each figure is of one of the times: packets by sequence numbers of each flow, checked behind the dataplane.';
  const used =
    'CPU time of all threads of the daemon by /proc/PID/task/*/schedstat, less what it uses without scrapes.';
  const scraped = rounds.map((round) => round.scraped);
  const without = rounds.map((round) => round.without);
  const each = (name: string, unit: string, promise: number | null, values: number[], method = counted) =>
    distribution(values, { name, unit, promise, method });
  return [
    distribution(
      scraped.flatMap(({ scrapeMs }) => scrapeMs),
      { name: 'scrape', unit: 'ms', promise: promised.scrapeMs, judged: 'p99', method: timed },
    ),
    each(
      'scrape: p99 of each of the times',
      'ms',
      null,
      scraped.map(({ scrapeMs }) => quantile(scrapeMs, 0.99)),
      timed,
    ),
    distribution(
      [...scraped, ...without].map(({ packetsPerSecond }) => packetsPerSecond),
      { name: 'traffic', unit: 'packets/s', promise: promised.ratePps, judged: 'min', method: counted },
    ),
    each(
      'lost while scraped',
      'packets',
      0,
      scraped.map(({ lost }) => lost),
    ),
    each(
      'lost without scrapes',
      'packets',
      null,
      without.map(({ lost }) => lost),
    ),
    each(
      'reordered while scraped',
      'packets',
      0,
      scraped.map(({ reordered }) => reordered),
    ),
    each('CPU time of the daemon for a scrape', 'ms', null, rounds.map(cpuMsPerScrape), used),
  ];
}

async function measureIdle(daemon: TestDaemon): Promise<DistributionResult> {
  await sleep(SETTLE_MS);
  const shares: number[] = [];
  for (let round = 0; round < ROUNDS; round++) shares.push(await cpuShare(daemon.pid, IDLE_SECONDS));
  return distribution(shares, {
    name: 'CPU of an idle daemon',
    unit: '% of a core',
    promise: promised.idlePercent,
    method: `A device attached, no traffic, nobody asks; /proc/PID/task/*/schedstat, ${ROUNDS} times ${IDLE_SECONDS} s.`,
  });
}

function memoryResults(daemon: TestDaemon, scrapes: number): DistributionResult[] {
  const { resident, maps, anonymous } = readMemory(daemon.pid);
  const method = `By /proc/PID/smaps after ${scrapes} scrapes, a device with 32 queues attached.`;
  const one = (name: string, value: number, promise: number | null) =>
    distribution([value], { name: `memory, ${name}`, unit: 'MiB', promise, method });
  return [
    one('all that is resident (VmRSS)', resident, promisedMemoryMiB),
    one('pages of BPF maps in it', maps, null),
    one('anonymous in it', anonymous, null),
  ];
}

async function benchScrape(seconds: number): Promise<DistributionResult[]> {
  using rig = createRig({ id: 'scrape' });
  await using daemon = await TestDaemon.start({ logLevel: 'info' });
  // What is compiled for the first time needs the compiler, whose memory stays: the second start finds it done.
  await daemon.stop();
  await daemon.run();
  const url = `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}?force=true`;
  const detach = () => daemon.send('DELETE', url);
  try {
    await attachByDaemon(rig, daemon);
    const idle = await measureIdle(daemon);
    const rounds = await measureRounds(rig, daemon, seconds);
    const scrapes = WARM_SCRAPES + rounds.reduce((sum, { scraped }) => sum + scraped.scrapeMs.length, 0);
    const memory = memoryResults(daemon, scrapes);
    return [...scrapeResults(rounds, seconds), idle, ...memory, ...(await benchFlowWalk(rig, daemon, detach))];
  } finally {
    await detach();
  }
}

export const scrapePart: Part = {
  name: 'scrape',
  title: 'scrapes under load, an idle daemon, its memory, the top flows of large tables',
  digits: 2,
  inQuick: false,
  run: async ({ seconds }): Promise<PartOutput> => {
    const results = await benchScrape(seconds ?? 8);
    const [scrapes] = results;
    return { results, validation: { scrape_p99: { achieved: scrapes!.p99, method: scrapes!.method } } };
  },
};
