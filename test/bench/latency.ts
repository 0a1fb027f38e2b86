// SPDX-License-Identifier: Apache-2.0
/** `BENCH=latency`: from XDP entry to the target CPU, by the dataplane's own histogram, every packet timed. */
import { latencyBucketEdgeNs, readLatencyCells, summarizeLatency } from '../../src/telemetry/counters.ts';
import { LiveRig, pinSender, TARGET_CPU } from './live-rig.ts';
import { summary } from './measure.ts';
import { loadDataplane } from './packet-subjects.ts';
import type { Part } from './part.ts';
import type { Plot } from './plot.ts';
import type { Result } from './result.ts';

const loads = [0.1, 0.5, 0.9] as const;
const SECONDS = { full: 1.5, quick: 0.5 } as const;
const BATCH = 32;
const ROUNDS = 3;

export const latencyPart: Part = {
  name: 'latency',
  title: 'us from XDP entry to the target CPU, by share of the highest rate that is delivered without loss',
  digits: 2,
  inQuick: false,
  run({ native, quick, seconds: asked }) {
    using rig = new LiveRig(native);
    using _ = pinSender(native, 0);
    rig.load({ flows: 1000, mix: 'uniform', frames: [[64, 1]] });
    using dataplane = loadDataplane(native, { cpu: TARGET_CPU, fill: 1000, latencySampleShift: 0 });
    using _link = rig.attach(dataplane.program('vnic_root'));
    const full = rig.burst(200_000);
    const most = (full.known + full.flood) / full.seconds;
    const clear = (): void => {
      for (let cpu = 0; cpu < dataplane.latency.length; cpu++) dataplane.latency.write(cpu, {});
    };
    const results: Result[] = [];
    const lines: { name: string; points: [number, number][] }[] = [];
    let p99AtHalf = 0;
    for (const load of loads) {
      const rounds = Array.from({ length: ROUNDS }, () => {
        clear();
        const startNs = process.hrtime.bigint();
        let sent = 0;
        for (;;) {
          const seconds = Number(process.hrtime.bigint() - startNs) / 1e9;
          if (seconds >= (asked ?? (quick ? SECONDS.quick : SECONDS.full))) break;
          if (sent < seconds * most * load) {
            rig.send(BATCH);
            sent += BATCH;
          }
        }
        return readLatencyCells(dataplane);
      });
      const summaries = rounds.map(summarizeLatency);
      for (const [name, pick] of [
        ['p50', (one) => one.p50Ns],
        ['p99', (one) => one.p99Ns],
      ] as [string, (one: (typeof summaries)[number]) => number][]) {
        const values = summaries.map((one) => pick(one) / 1000);
        const bound = load === 0.5 && name === 'p99' ? 1 : null;
        const result = summary(
          { name: `${name} at ${load * 100} % of ${(most / 1e6).toFixed(2)} Mpps`, unit: 'us' },
          values,
          values.map(() => 5),
        );
        results.push({ ...result, bound });
        if (bound !== null) p99AtHalf = result.median;
      }
      lines.push({ name: `${load * 100} % load`, points: distribution(rounds.map(({ buckets }) => buckets)) });
    }
    const plot: Plot = {
      kind: 'lines',
      title: 'Latency from XDP entry to the target CPU',
      x: { label: 'us', log: true },
      y: { label: 'share of packets that took at most so long' },
      lines,
    };
    return {
      results,
      plots: [plot],
      validation: {
        latency_p99: {
          achieved: p99AtHalf,
          method: `Each packet timed, batches of ${BATCH} at half of the rate that is delivered; median of ${ROUNDS} runs' 99th percentile. A sleeping CPU has to be woken, here by an interrupt from one virtual CPU to another.`,
        },
      },
    };
  },
};

/** Cumulative shares of all rounds together. */
function distribution(rounds: readonly BigUint64Array[]): [number, number][] {
  const counts = Array.from(rounds[0]!, (_, bucket) =>
    rounds.reduce((sum, buckets) => sum + Number(buckets[bucket]), 0),
  );
  const total = counts.reduce((sum, count) => sum + count, 0);
  let below = 0;
  return counts.flatMap((count, bucket): [number, number][] => {
    below += count;
    return count === 0 ? [] : [[latencyBucketEdgeNs(bucket) / 1000, below / total]];
  });
}
