// SPDX-License-Identifier: Apache-2.0
/** `BENCH=failover`: zones die under load, over and over, whatever state the daemon is in; what is promised of that. */
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  failByHand,
  type HandLoss,
  loseZone,
  type ZoneLoss,
  type ZoneLossOptions,
} from '../rig/scenarios/zone-loss.ts';
import { ZoneWasSilent } from '../rig/zone-run.ts';
import { type DistributionResult, distribution } from './distribution.ts';
import { fromEnvironment } from './environment.ts';
import { bfdSessions, probes } from './failover-peers.ts';
import { failoverPlots } from './failover-plot.ts';
import { AZ, FailoverSetting, FLOWS, MARGIN_MS, RATE_PPS, STALE_MS, startRun, zoneQueues } from './failover-setting.ts';
import type { Part } from './part.ts';
import type { Plot } from './plot.ts';

const SILENCE_MS = 20;
const BLOCK_MS = 2000;
const SOON_MS = 50;
const COMMITS_PER_REPETITION = 8;
const LOST_IN_LONG_RUN = 'lost of what living zones sent';
const promised = { commitUs: 100, ratePps: 500_000, lostPpm: 10, plannedMoves: 1000, unevenBuckets: 1 } as const;

const daemonStates = ['running', 'stopped (SIGSTOP)', 'killed (kill -9)', 'blocked for 2 s'] as const;
type DaemonState = (typeof daemonStates)[number];

const load = `${FLOWS} flows of three zones and of addresses of none, ${RATE_PPS} packets/s asked for`;

/** Each repetition finds a fresh heartbeat or a stale one in turn, where the daemon does not run. */
function disturbance(setting: FailoverSetting, state: DaemonState, repetition: number) {
  const { daemon } = setting;
  const isStale = repetition % 2 === 1;
  const wait = (): Promise<void> => sleep(isStale ? STALE_MS : SOON_MS);
  const steps: Record<DaemonState, Pick<ZoneLossOptions, 'disturb' | 'mend'>> = {
    running: {},
    'stopped (SIGSTOP)': {
      disturb: async () => {
        daemon.signal('SIGSTOP');
        await wait();
      },
      mend: async () => daemon.signal('SIGCONT'),
    },
    'killed (kill -9)': {
      disturb: async () => {
        await daemon.kill();
        await wait();
      },
      mend: () => daemon.run(),
    },
    'blocked for 2 s': {
      disturb: async () => {
        setting.block(BLOCK_MS);
        await wait();
      },
      mend: () => sleep(BLOCK_MS),
    },
  };
  return steps[state];
}

async function silence(setting: FailoverSetting, repetitions: number): Promise<DistributionResult[]> {
  await setting.configure({ silence_ms: SILENCE_MS });
  const results: DistributionResult[] = [];
  const losses: ZoneLoss[] = [];
  for (const state of daemonStates) {
    using run = await startRun(setting);
    const ofState: ZoneLoss[] = [];
    for (let repetition = 0, repeated = 0; repetition < repetitions; ) {
      try {
        ofState.push(await loseZone(run, { az: AZ, outageMs: 200, ...disturbance(setting, state, repetition) }));
        repetition++;
      } catch (error) {
        if (!(error instanceof ZoneWasSilent) || ++repeated > repetitions) throw error;
        console.log(`  (once more, the machine is busy: ${error.message})`);
      }
    }
    await run.end();
    if (state !== 'running' && repetitions > 1 && !ofState.some(({ wasStale }) => wasStale)) {
      throw new Error(`the daemon was to be ${state}, and its heartbeat was never stale`);
    }
    losses.push(...ofState);
    results.push(
      distribution(
        ofState.map(({ detectMs }) => detectMs),
        {
          name: `silence of ${SILENCE_MS} ms seen, daemon ${state}`,
          unit: 'ms',
          promise: SILENCE_MS + MARGIN_MS,
          method: `Detection by silence: the zone's part of the generator is stopped, the others go on (${load}); from the time that the zone's last packet carries to watch.azs[].lost_ns, which the kernel's timer writes when it has switched.`,
        },
      ),
    );
  }
  return [...results, ...harmResults(losses)];
}

function harmResults(losses: readonly ZoneLoss[]): DistributionResult[] {
  const method = `Under that load, of each repetition from before the loss until after the recovery. Surviving: flows of living zones whose queue is the same in the tables before and after the switch; lost: gaps in the sequence numbers that the checker behind the dataplane sees; buckets: from the kernel's tables themselves.`;
  const of = (name: string, unit: string, promise: number | null, pick: (loss: ZoneLoss) => number) =>
    distribution(losses.map(pick), { name, unit, promise, method });
  return [
    of('surviving flows: lost', 'packets', 0, ({ harm }) => harm.lostSurviving),
    of('surviving flows: reordered', 'packets', 0, ({ harm }) => harm.reorderedSurviving),
    of('living flows on lost queues: lost', 'packets', null, ({ harm }) => harm.lostMoved),
    of('living flows on lost queues: reordered', 'packets', null, ({ harm }) => harm.reorderedMoved),
    of('collateral', 'buckets', 0, ({ change }) => change.collateral),
    of('buckets on lost queues and not moved', 'buckets', 0, ({ change }) => change.onLost - change.moved),
    of(
      'fullest queue over the emptiest of a row',
      'buckets',
      promised.unevenBuckets,
      ({ change }) => change.unevenBuckets,
    ),
    of('recovered to another table than before', 'times', 0, ({ isHomeAgain }) => (isHomeAgain ? 0 : 1)),
    of('moves that could have reordered', 'flows', 0, ({ moves }) => moves.risked),
    of('silence that the kernel had seen itself', 'ms', null, ({ silentMs }) => silentMs),
    of('switches while the heartbeat was stale', 'times', null, ({ wasStale }) => (wasStale ? 1 : 0)),
    of('zone heard again to in use again', 'ms', null, ({ recoverMs }) => recoverMs),
    distribution(
      losses.map(({ packetsPerSecond }) => packetsPerSecond),
      { name: 'load, the dead zone missing', unit: 'packets/s', promise: promised.ratePps, judged: 'min', method },
    ),
  ];
}

async function byHand(setting: FailoverSetting, repetitions: number): Promise<DistributionResult[]> {
  await setting.configure({});
  const steps = {
    fail: () => setting.change(AZ, 'fail'),
    recover: () => setting.change(AZ, 'recover'),
    pauseMs: 400,
  };
  const commits = async (): Promise<number[]> => {
    const times: number[] = [];
    for (let commit = 0; commit < COMMITS_PER_REPETITION; commit++) {
      times.push(await steps.fail(), await steps.recover());
    }
    return times;
  };
  const idleNs: number[] = [];
  for (let repetition = 0; repetition < repetitions; repetition++) idleNs.push(...(await commits()));
  using run = await startRun(setting);
  const loadedNs: number[] = [];
  const losses: HandLoss[] = [];
  await sleep(500);
  for (let repetition = 0; repetition < repetitions; repetition++) {
    const loss = await failByHand(run, steps);
    losses.push(loss);
    loadedNs.push(...loss.commitNs, ...(await commits()));
    await sleep(steps.pauseMs);
  }
  await run.end();
  const commitMethod = `Commit: what the daemon tells of each failure and recovery, from its decision to the table's being active. Under load it may be told late: the generator and the CPUMAP threads leave little of ${availableParallelism()} CPUs.`;
  const method = `By hand, through the daemon, under the load of all zones (${load}): POST …/fail and …/recover of ${AZ}, whose flows go on. Planned moves are the flows that the recovery gives another queue; counters are the kernel's (cpu_stats.moves_*), order is the checker's.`;
  const of = (name: string, unit: string, promise: number | null, pick: (loss: HandLoss) => number) =>
    distribution(losses.map(pick), { name, unit, promise, method });
  const commit = (when: string, ns: readonly number[], promise: number | null): DistributionResult =>
    distribution(
      ns.map((one) => one / 1000),
      { name: `commit from user space, ${when}`, unit: 'us', promise, judged: 'p99', method: commitMethod },
    );
  return [
    commit('no traffic', idleNs, promised.commitUs),
    commit('under that load', loadedNs, null),
    distribution(
      losses.map(({ plannedMoves }) => plannedMoves),
      {
        name: 'planned moves of a recovery',
        unit: 'flows',
        promise: promised.plannedMoves,
        judged: 'min',
        method,
      },
    ),
    of('planned moves: made in order', 'flows', null, ({ planned }) => planned.inOrder),
    of('planned moves: that could have reordered', 'flows', 0, ({ planned }) => planned.risked),
    of('planned moves: packets reordered', 'packets', 0, ({ planned }) => planned.reordered),
    of('planned moves: packets lost', 'packets', 0, ({ planned }) => planned.lost),
    of('planned moves: packets kept on the former queue', 'packets', null, ({ planned }) => planned.heldPackets),
    of('by hand: collateral', 'buckets', 0, ({ change }) => change.collateral),
    of('by hand: surviving flows: lost', 'packets', 0, ({ harm }) => harm.lostSurviving),
    of('by hand: surviving flows: reordered', 'packets', 0, ({ harm }) => harm.reorderedSurviving),
    of('by hand: recovered to another table', 'times', 0, ({ isHomeAgain }) => (isHomeAgain ? 0 : 1)),
  ];
}

/** One long run with one loss and one recovery. */
async function continuity(setting: FailoverSetting, seconds: number, plots: Plot[]): Promise<DistributionResult[]> {
  await setting.configure({ silence_ms: SILENCE_MS });
  using run = await startRun(setting);
  const startMs = performance.now();
  await sleep(seconds * 333);
  await loseZone(run, { az: AZ, outageMs: seconds * 333 });
  await sleep(Math.max(0, seconds * 1000 - (performance.now() - startMs)));
  const slices = run.checker.slices();
  const { sent, report } = await run.end();
  plots.push(
    ...failoverPlots(
      slices,
      zoneQueues,
      zoneQueues.findIndex(({ name }) => name === AZ),
    ),
  );
  const lostPpm = (report.lost / sent.sent) * 1e6;
  const rate = (sent.sent * 1000) / sent.elapsedMs;
  const method = `Continuity: ${seconds} s of ${load}; ${AZ} falls silent after a third and comes back after two. A packet counts as sent by a living zone when the generator has made it, which a dead zone's part does not; it counts as delivered when the checker behind the dataplane has it. Sent ${sent.sent}, lost ${report.lost}: ${(100 - lostPpm / 1e4).toFixed(5)} % delivered, 99.999 % promised (10 ppm).`;
  return [
    distribution([lostPpm], {
      name: `${LOST_IN_LONG_RUN} in ${seconds} s`,
      unit: 'ppm',
      promise: promised.lostPpm,
      method,
    }),
    distribution([rate], {
      name: 'load of the long run',
      unit: 'packets/s',
      promise: promised.ratePps,
      judged: 'min',
      method,
    }),
  ];
}

export interface FailoverOptions {
  /** Of each part but the long run. */
  repetitions: number;
  /** Of the long run. */
  seconds: number;
  only: readonly string[];
}

type Section = (setting: FailoverSetting, options: FailoverOptions, plots: Plot[]) => Promise<DistributionResult[]>;

const sections: Record<string, Section> = {
  silence: (setting, { repetitions }) => silence(setting, repetitions),
  probes: async (setting, { repetitions }) => [await probes(setting, repetitions)],
  bfd: (setting, { repetitions }) => bfdSessions(setting, repetitions),
  hand: (setting, { repetitions }) => byHand(setting, repetitions),
  long: (setting, { seconds }, plots) => continuity(setting, seconds, plots),
};

/** REPS, SECONDS and ONLY (with commas) of the environment. */
function optionsFromEnvironment(): FailoverOptions {
  const only = process.env['ONLY']?.split(',') ?? Object.keys(sections);
  const unknown = only.filter((name) => !(name in sections));
  if (unknown.length === 0) {
    return { repetitions: fromEnvironment('REPS', 8), seconds: fromEnvironment('SECONDS', 30), only };
  }
  throw new Error(`ONLY names no part of this: ${unknown.join(', ')}; known: ${Object.keys(sections).join(', ')}`);
}

/** Throws where nothing could be measured, and where a zone was lost that was not silent. @param plots are added to */
export async function benchFailover(
  options = optionsFromEnvironment(),
  plots: Plot[] = [],
): Promise<DistributionResult[]> {
  await using setting = await FailoverSetting.start();
  await setting.attach({});
  const results: DistributionResult[] = [];
  for (const name of options.only) results.push(...((await sections[name]?.(setting, options, plots)) ?? []));
  return results;
}

/** 30 repetitions and a minute for REPS=30 SECONDS=60; the usual run is a part of the whole benchmark's quarter of an hour. */
export const failoverPart: Part = {
  name: 'failover',
  title: 'zones die under traffic of 10,000 flows (REPS=n repetitions, SECONDS=n of the long run; default 8 and 30)',
  digits: 2,
  inQuick: false,
  async run({ seconds }) {
    const usual = optionsFromEnvironment();
    const plots: Plot[] = [];
    const results = await benchFailover({ ...usual, seconds: seconds ?? usual.seconds }, plots);
    const lost = results.find(({ name }) => name.startsWith(LOST_IN_LONG_RUN));
    if (lost === undefined) return { results, plots };
    const continuity = { achieved: 1 - lost.max / 1e6, method: lost.method };
    return { results, plots, validation: { continuity } };
  },
};
