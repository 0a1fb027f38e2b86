// SPDX-License-Identifier: Apache-2.0
/**
 * `BENCH=latency`: from XDP entry to the target CPU, every packet timed, and where the time goes: the same packets by a
 * bare redirect, a target CPU that polls before it halts and one that halts at once, packets one at a time and several.
 */
import type { Native } from '../../src/loader/ffi/index.ts';
import {
  type LatencyCells,
  latencyBucketEdgeNs,
  readLatencyCells,
  summarizeLatency,
} from '../../src/telemetry/counters.ts';
import { HALT_POLL_NS } from '../../src/tune/plan.ts';
import { setHaltPoll, withoutHaltPoll } from './halt-poll.ts';
import { LiveRig, pinSender, TARGET_CPU, type TimedRedirect } from './live-rig.ts';
import { summary } from './measure.ts';
import { loadDataplane } from './packet-subjects.ts';
import type { Part } from './part.ts';
import type { LinePlot, Plot } from './plot.ts';
import { type Measured, notMeasured, type Result } from './result.ts';

const PROMISED_US = 5;
const FLOWS = 1000;
const SECONDS = 0.6;
const ROUNDS = 3;

/** `as it is`: of a machine where it cannot be set. */
type Idle = 'polls' | 'halts' | 'as it is';

interface Case {
  /** Share of the highest rate that is delivered without loss. */
  load: number;
  /** Packets that come together, as a network card brings them at a poll. */
  group: number;
  idle: Idle;
}

/** What is promised, and what each of it is compared with. */
const places = [
  { load: 0.1, group: 1 },
  { load: 0.5, group: 1 },
  { load: 0.9, group: 1 },
  { load: 0.5, group: 8 },
  { load: 0.5, group: 32 },
] as const;

const pollNs = { polls: HALT_POLL_NS, halts: 0 } as const;

const idleText: Readonly<Record<Idle, string>> = {
  polls: 'CPU polls before it halts',
  halts: 'CPU halts at once',
  'as it is': 'CPU idles as the machine has it',
};

/** Of each round, the times of all its packets. */
interface Times {
  ours: LatencyCells[];
  bare: LatencyCells[];
}

class LatencyBench implements Disposable {
  readonly #opened = new DisposableStack();
  readonly #native: Native;
  readonly #rig: LiveRig;
  readonly #ours: TimedRedirect;
  readonly #bare: TimedRedirect;
  readonly #seconds: number;
  readonly mostPps: number;

  constructor(native: Native, seconds: number) {
    this.#native = native;
    this.#seconds = seconds;
    this.#rig = this.#opened.use(new LiveRig(native));
    using _sender = pinSender(native, 0);
    this.#rig.load({ flows: FLOWS, mix: 'uniform', frames: [[64, 1]] });
    const setting = { cpu: TARGET_CPU, fill: 1000, latencySampleShift: 0 };
    const dataplane = this.#opened.use(loadDataplane(native, setting));
    this.#ours = { program: dataplane.program('vnic_root'), latency: dataplane.latency };
    this.#bare = this.#rig.timedRedirect();
    using _ = this.#rig.attach(this.#ours.program);
    const { known, seconds: taken } = this.#rig.burst(200_000);
    this.mostPps = known / taken;
  }

  /** In %, of the CPU that packets are handed to. */
  away(): Measured {
    using _ = pinSender(this.#native, TARGET_CPU);
    const shares = Array.from({ length: ROUNDS }, () => 100 * this.#rig.awayShare());
    const name = 'the machine itself: time that it takes the target CPU away for more than 5 us';
    return { ...summary({ name, unit: '%' }, shares, shares), detail: 'of a program that only looks at the clock' };
  }

  #times({ program, latency }: TimedRedirect, { load, group }: Case): LatencyCells {
    using _ = this.#rig.attach(program);
    const ratePps = this.mostPps * load;
    // What the first packets find is not what the others do: nothing is in a cache.
    this.#rig.pace({ packets: 2000, ratePps, group });
    for (let cpu = 0; cpu < latency.length; cpu++) latency.write(cpu, {});
    this.#rig.pace({ packets: Math.ceil(ratePps * this.#seconds), ratePps, group });
    return readLatencyCells({ latency });
  }

  measure(one: Case): Times {
    using _idle = one.idle === 'as it is' ? undefined : setHaltPoll(pollNs[one.idle]);
    using _sender = pinSender(this.#native, 0);
    const times: Times = { ours: [], bare: [] };
    for (let round = 0; round < ROUNDS; round++) {
      times.bare.push(this.#times(this.#bare, one));
      times.ours.push(this.#times(this.#ours, one));
    }
    return times;
  }

  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}

const isPromised = ({ load, group, idle }: Case): boolean => load === 0.5 && group === 1 && idle !== 'halts';

function nameOf({ load, group, idle }: Case): string {
  const together = group === 1 ? 'one at a time' : `${group} at a time`;
  return `${load * 100} % load, ${together}, ${idleText[idle]}`;
}

/** In %. A bucket that goes beyond the promise counts as later. */
function onTime({ count, buckets }: LatencyCells): number {
  const early = buckets.reduce(
    (sum, packets, bucket) => (latencyBucketEdgeNs(bucket) <= PROMISED_US * 1000 ? sum + packets : sum),
    0n,
  );
  return (100 * Number(early)) / Number(count);
}

function figures(one: Case, { ours, bare }: Times): Measured[] {
  const us = (runs: readonly LatencyCells[], pick: 'p50Ns' | 'p99Ns'): number[] =>
    runs.map((cells) => (summarizeLatency(cells)[pick] ?? Number.NaN) / 1000);
  const name = nameOf(one);
  const p99 = us(ours, 'p99Ns');
  const results = [
    summary({ name: `p50, ${name}`, unit: 'us' }, us(ours, 'p50Ns'), us(bare, 'p50Ns')),
    summary({ name: `p99, ${name}`, unit: 'us' }, p99, us(bare, 'p99Ns')),
    summary({ name: `within ${PROMISED_US} us, ${name}`, unit: '%' }, ours.map(onTime), bare.map(onTime)),
  ];
  if (!isPromised(one)) return results;
  const promised = summary(
    { name: 'p99 at half load, over what is promised', unit: 'us' },
    p99,
    p99.map(() => PROMISED_US),
  );
  return [...results, { ...promised, bound: 1 }];
}

function curves(one: Case, { ours, bare }: Times): LinePlot['lines'] {
  if (one.load !== 0.5) return [];
  const name = nameOf(one).replace('50 % load, ', '');
  const floor = { name: `${name}: bare redirect`, muted: true, points: distribution(bare) };
  return [{ name, points: distribution(ours) }, ...(isPromised(one) ? [floor] : [])];
}

export const latencyPart: Part = {
  name: 'latency',
  title:
    'us from XDP entry to the target CPU, and the ratio to a bare CPUMAP redirect of the same packets right before it',
  digits: 2,
  inQuick: false,
  run({ native, seconds }) {
    using bench = new LatencyBench(native, seconds ?? SECONDS);
    const reason = withoutHaltPoll();
    const idles: readonly Idle[] = reason === null ? ['polls', 'halts'] : ['as it is'];
    const away = bench.away();
    const cases = idles.flatMap((idle) => places.map((place): Case => ({ ...place, idle })));
    const measured = cases.map((one) => ({ one, times: bench.measure(one) }));
    const results: Result[] = [...measured.flatMap(({ one, times }) => figures(one, times)), away];
    if (reason !== null) results.push(notMeasured(idleText.polls, 'us', reason));
    const plot: Plot = {
      kind: 'lines',
      title: 'Latency from XDP entry to the target CPU at half load',
      x: { label: 'us', log: true },
      y: { label: 'share of packets that took at most so long' },
      lines: measured.flatMap(({ one, times }) => curves(one, times)),
    };
    const rate = `half of the ${(bench.mostPps / 1e6).toFixed(2)} Mpps that are delivered without loss`;
    const method = `Each packet timed, one at a time at ${rate}; ${idleText[idles[0]!]}; median of ${ROUNDS} runs' 99th percentile. The machine itself takes the target CPU away for more than 5 us in ${away.median.toFixed(1)} % of the time: above 1 %, no program can have this percentile.`;
    const achieved = results.find(({ bound }) => bound !== null)!.median;
    return { results, plots: [plot], validation: { latency_p99: { achieved, method } } };
  },
};

/** Cumulative shares of all rounds together. */
function distribution(rounds: readonly LatencyCells[]): [number, number][] {
  const counts = Array.from(rounds[0]!.buckets, (_, bucket) =>
    rounds.reduce((sum, { buckets }) => sum + Number(buckets[bucket]), 0),
  );
  const total = counts.reduce((sum, count) => sum + count, 0);
  let below = 0;
  return counts.flatMap((count, bucket): [number, number][] => {
    below += count;
    return count === 0 ? [] : [[latencyBucketEdgeNs(bucket) / 1000, below / total]];
  });
}
