// SPDX-License-Identifier: Apache-2.0
/**
 * `BENCH=flood`: flows that are established, and beside them as many packets as one CPU makes, each a flow of its own.
 * A daemon has the device, is scraped, and must not grow.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { scrape } from '../rig/scenarios/daemon.ts';
import { growthOf, readMemory, type SoakSample } from '../rig/scenarios/soak.ts';
import { TestDaemon } from '../support/daemon.ts';
import { fillRules } from './cases.ts';
import { type DistributionResult, distribution } from './distribution.ts';
import { LiveRig, pinSender, type Totals } from './live-rig.ts';
import { mapBytes } from './memory.ts';
import { azs } from './packet-subjects.ts';
import type { BenchContext, Part, PartOutput } from './part.ts';
import type { Plot } from './plot.ts';

const FLOWS = 1000;
/** One packet in so many is of an established flow. */
const KNOWN_EVERY = 8;
const ROUNDS = { full: 4, quick: 2 } as const;
const SECONDS = { full: 3, quick: 1 } as const;
/** Sent at once; then whoever waits has a turn. */
const CHUNK = 2048;
const PACED_CHUNK = 64;
const SCRAPE_EVERY_MS = 1000;
const SAMPLE_EVERY_MS = 500;
const KNOWN_SECONDS = 1;
/** What is in a CPUMAP's ring has arrived after it. */
const DRAIN_MS = 50;
const MIB = 2 ** 20;
const promised = { kept: 0.9, growthMiB: 4 } as const;

/** Half of the established flows go to queues that a rule names, half have a limit of their own, which they do not reach. */
const rules = [
  { id: 1, match: { src: '10.0.0.0/13', proto: 'udp' }, action: 'pass', queues: [3, 4, 9] },
  {
    id: 2,
    match: { src: '10.8.0.0/13', proto: 'udp' },
    action: 'pass',
    limit: { rate: '10gbit', burst: '6000kb', scope: 'flow' },
  },
  ...fillRules(1000),
];

interface Stretch extends Totals {
  seconds: number;
  made: { known: number; flood: number };
}

class Flood {
  readonly #rig: LiveRig;
  readonly #daemon: TestDaemon;
  readonly #startMs = performance.now();
  readonly samples: SoakSample[] = [];
  #scrapes = 0;
  #scrapeDueMs = 0;
  #sampleDueMs = 0;

  constructor(rig: LiveRig, daemon: TestDaemon) {
    this.#rig = rig;
    this.#daemon = daemon;
  }

  /** Sends for so long. @param knownPps established flows alone, at most at that rate; null: with the flood, all that goes */
  async send(seconds: number, knownPps: number | null): Promise<Stretch> {
    const rig = this.#rig;
    rig.flood(knownPps === null ? KNOWN_EVERY : 0);
    const [before, made] = [rig.totals(), rig.made()];
    const pps = knownPps ?? Infinity;
    const chunk = Number.isFinite(pps) ? PACED_CHUNK : CHUNK;
    const startMs = performance.now();
    // Not 0: nothing times infinity is no rate.
    let elapsed = 1e-6;
    for (let sent = 0; elapsed < seconds; elapsed = (performance.now() - startMs) / 1000) {
      if (sent < elapsed * pps) {
        rig.send(chunk);
        sent += chunk;
      }
      this.#look();
      await nextTurn();
    }
    await sleep(DRAIN_MS);
    const [after, madeThen] = [rig.totals(), rig.made()];
    const arrived = Object.entries(after).map(([name, count]) => [name, count - before[name as keyof Totals]]);
    return {
      ...(Object.fromEntries(arrived) as Totals),
      seconds: elapsed,
      made: { known: madeThen.known - made.known, flood: madeThen.flood - made.flood },
    };
  }

  /** Scrapes, and reads the daemon's memory, when it is time. */
  #look(): void {
    const now = performance.now() - this.#startMs;
    if (now >= this.#scrapeDueMs) {
      this.#scrapeDueMs = now + SCRAPE_EVERY_MS;
      // One that fails is missed in the count.
      void scrape(this.#daemon).then(
        () => this.#scrapes++,
        () => undefined,
      );
    }
    if (now < this.#sampleDueMs) return;
    this.#sampleDueMs = now + SAMPLE_EVERY_MS;
    this.samples.push({ seconds: now / 1000, scrapes: this.#scrapes, ...readMemory(this.#daemon.pid) });
  }
}

/** Both are sent at the same rate, so it is that of the rates too. */
const arrivedShare = ({ known, made }: Stretch): number => known / made.known;
const per = (count: number, { seconds }: Stretch): number => count / seconds;

async function benchFlood({ native, quick, seconds: asked }: BenchContext): Promise<PartOutput> {
  const form = quick ? 'quick' : 'full';
  const seconds = asked ?? SECONDS[form];
  using rig = new LiveRig(native);
  // What is compiled for the first time needs the compiler, whose memory stays: a daemon that was started before does not.
  await using daemon = await TestDaemon.start();
  await daemon.stop();
  await daemon.run();
  const body = { name: rig.device, netns: rig.netns, deliverMetadata: true, num_queues: 32, azs, rules };
  await daemon.ask('POST', '/api/v1/devices', { body });
  try {
    using _ = pinSender(native, 0);
    rig.load({ flows: FLOWS, mix: 'uniform', frames: [[64, 1]], isFollowed: true });
    const flood = new Flood(rig, daemon);
    let floods = [await flood.send(seconds, null)];
    let [alone, known]: [Stretch[], Stretch[]] = [[], []];
    const mapsBefore = mapBytes(daemon.pid);
    // Nothing of the first round counts: the daemon has not yet compiled what it does, and the table is not yet full.
    for (let round = -1; round < ROUNDS[form]; round++) {
      const last = floods.at(-1)!;
      alone.push(await flood.send(seconds, per(last.made.known, last)));
      floods.push(await flood.send(seconds, null));
      known.push(await flood.send(KNOWN_SECONDS, Infinity));
      if (round < 0) [alone, known, floods] = [[], [], floods.slice(-1)];
    }
    const mapsAfter = mapBytes(daemon.pid);
    const results = judge({ alone, known, floods: floods.slice(1) }, flood.samples, (mapsAfter - mapsBefore) / MIB);
    return { results, plots: [memoryPlot(flood.samples)] };
  } finally {
    await daemon.send('DELETE', `/api/v1/devices/${encodeURIComponent(`${rig.device}@${rig.netns}`)}?force=true`);
  }
}

function judge(
  { alone, known, floods }: Record<'alone' | 'known' | 'floods', readonly Stretch[]>,
  samples: readonly SoakSample[],
  mapGrowthMiB: number,
): DistributionResult[] {
  const of = (name: string, unit: string, promise: number | null, values: readonly number[]) =>
    distribution(values, { name, unit, promise, method, judged: promise === promised.kept ? 'min' : 'max' });
  const method = `${FLOWS} established flows and, beside them, ${KNOWN_EVERY - 1} packets of 64 bytes for each of theirs, every one a new flow, as fast as one CPU makes and steers them; in turn with the established ones alone, at the rate that they had in the flood before. Kept: what arrives of their packets, with the flood over without. That CPU cannot make more than it handles, so a slow packet delays the next one here; a network card that is faster would lose some of both. Queues by the metadata before each frame. Memory of a daemon that is scraped once a second, over ${samples.at(-1)!.seconds.toFixed(0)} s: the least anonymous memory of the last third over that of the third before.`;
  const sum = (stretches: readonly Stretch[], pick: (one: Stretch) => number): number =>
    stretches.reduce((total, one) => total + pick(one), 0);
  return [
    of(
      'established flows, rate kept',
      'of 1',
      promised.kept,
      floods.map((one, round) => arrivedShare(one) / arrivedShare(alone[round]!)),
    ),
    of('of their packets, arrived in the flood', 'of 1', null, floods.map(arrivedShare)),
    of(
      'their rate in the flood',
      'kpps',
      null,
      floods.map((one) => per(one.known, one) / 1000),
    ),
    of(
      'flood: new flows a second',
      'kpps',
      null,
      floods.map((one) => per(one.made.flood, one) / 1000),
    ),
    of(
      'all packets a second, over those of established flows only',
      'of 1',
      null,
      floods.map(
        (one, round) => per(one.made.known + one.made.flood, one) / per(known[round]!.made.known, known[round]!),
      ),
    ),
    of('packets that changed their queue', 'packets', 0, [sum([...alone, ...floods], ({ moved }) => moved)]),
    of('packets without a word on the queue', 'packets', 0, [sum([...alone, ...floods], ({ unmarked }) => unmarked)]),
    of('growth of the BPF maps', 'MiB', 0, [mapGrowthMiB]),
    of('growth of the daemon', 'MiB', promised.growthMiB, [growthOf(samples)]),
    of(
      'resident memory of the daemon',
      'MiB',
      null,
      samples.map(({ resident }) => resident),
    ),
  ];
}

function memoryPlot(samples: readonly SoakSample[]): Plot {
  const line = (name: string, of: (sample: SoakSample) => number) => ({
    name,
    points: samples.map((sample) => [sample.seconds, of(sample)] as const),
  });
  return {
    kind: 'lines',
    title: 'Memory of the daemon in a flood of new flows',
    x: { label: 'seconds' },
    y: { label: 'MiB' },
    lines: [line('resident', ({ resident }) => resident), line('anonymous', ({ anonymous }) => anonymous)],
  };
}

export const floodPart: Part = {
  name: 'flood',
  title: 'established flows while every other packet is a new flow, at the rate of the rig; and what it does to memory',
  digits: 3,
  run: benchFlood,
};
