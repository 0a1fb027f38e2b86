// SPDX-License-Identifier: Apache-2.0
/** `BENCH=topologies`: machines and their traffic, each a line: what arrives of it, and how the queues share it. */
import type { Fd } from '../../src/loader/fd.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { readQueueCounters } from '../../src/telemetry/counters.ts';
import { bare, ours } from './live-peers.ts';
import { LiveRig, pinSender, TARGET_CPU } from './live-rig.ts';
import { measure, type Subject } from './measure.ts';
import { loadDataplane } from './packet-subjects.ts';
import type { Part, PartOutput } from './part.ts';
import type { BarPlot } from './plot.ts';
import type { Result } from './result.ts';
import { azsOf, packetMixes, type TopologyCase, topologyCases, topologyName } from './topology-cases.ts';

const ROUNDS = { full: 5, quick: 3 } as const;
const PACKETS = 50_000;
const MAX_FLOWS = 2 << 20;
const USUAL_MAX_FLOWS = 131_072;

/** How the queues shared what they were given. */
interface Balance {
  /** Packets of each queue. */
  packets: number[];
  /** Of the fullest over the mean. */
  fullest: number;
  used: number;
}

function balanceOf(packets: number[]): Balance {
  const mean = packets.reduce((sum, one) => sum + one, 0) / packets.length;
  return { packets, fullest: Math.max(...packets) / mean, used: packets.filter((one) => one > 0).length };
}

async function runCase(
  native: Native,
  rig: LiveRig,
  redirect: Fd,
  item: TopologyCase,
  rounds: number,
): Promise<[Result, Balance]> {
  const { queues, cpus, flows, mix, packets, rules } = item;
  const name = topologyName(item);
  rig.load({ flows, mix, frames: packetMixes[packets] });
  using opened = new DisposableStack();
  const dataplane = opened.use(
    loadDataplane(native, {
      queues,
      azs: azsOf(item),
      fill: rules,
      maxFlows: flows > USUAL_MAX_FLOWS / 2 ? MAX_FLOWS : USUAL_MAX_FLOWS,
      ...(cpus === 'one' ? { cpu: TARGET_CPU } : {}),
    }),
  );
  const subject = ({ start }: ReturnType<typeof ours>, as: string): Subject => ({
    name: as,
    unit: 'Mpps',
    run: async () => {
      using _ = await start();
      return rig.rate(PACKETS, 'arrived');
    },
  });
  const floor = subject(bare(rig, '', redirect), 'bare CPUMAP redirect');
  const pairs = [{ floor, subject: subject(ours(rig, name, dataplane), name) }];
  const measured = (await measure(pairs, rounds))[1]!;
  const balance = balanceOf(readQueueCounters(dataplane, queues).map((queue) => Number(queue.steeredPackets)));
  const bytes = meanBytes(packets);
  const gbits = ((measured.median * bytes * 8) / 1000).toFixed(1);
  const detail = `${gbits} Gbit/s; ${balance.used} of ${queues} queues, the fullest ${balance.fullest.toFixed(2)} x the mean`;
  return [{ ...measured, detail }, balance];
}

function meanBytes(packets: keyof typeof packetMixes): number {
  const mix: readonly (readonly [number, number])[] = packetMixes[packets];
  const weights = mix.reduce((sum, [, weight]) => sum + weight, 0);
  return mix.reduce((sum, [bytes, weight]) => sum + bytes * weight, 0) / weights;
}

function balancePlots(cases: readonly TopologyCase[], balances: readonly Balance[]): BarPlot[] {
  const fullest: BarPlot = {
    kind: 'bars',
    title: 'Queue balance: packets of the fullest queue over the mean (lines: emptiest to fullest)',
    unit: 'times the mean of all queues',
    bars: cases.map((item, index) => {
      const { packets, fullest: value } = balances[index]!;
      return {
        label: topologyName(item),
        value,
        low: Math.min(...packets) * (value / Math.max(...packets)),
        high: value,
      };
    }),
    mark: { label: 'the same for each', value: 1 },
  };
  const at = cases.findLastIndex(({ queues, mix }) => queues === 32 && mix === 'uniform');
  const widest = cases[at];
  if (widest === undefined) return [fullest];
  const { packets } = balances[at]!;
  const sum = packets.reduce((left, right) => left + right, 0);
  return [
    fullest,
    {
      kind: 'bars',
      title: `Share of each queue (0-31): ${topologyName(widest)}`,
      unit: '% of the packets',
      bars: packets.map((one, queue) => ({ label: String(queue), value: (one / sum) * 100 })),
      upright: true,
      mark: { label: 'the same for each', value: 100 / packets.length },
    },
  ];
}

export const topologiesPart: Part = {
  name: 'topologies',
  title:
    'Mpps that arrive, and the ratio to a bare CPUMAP redirect of the same packets to one CPU (median of interleaved rounds, quartiles)',
  digits: 2,
  async run({ native, quick }): Promise<PartOutput> {
    using rig = new LiveRig(native);
    using _ = pinSender(native, 0);
    const cases = topologyCases.filter((item) => !quick || item.quick === true);
    const redirect = rig.bare('bench_redirect');
    const results: Result[] = [];
    const balances: Balance[] = [];
    for (const item of cases) {
      const [result, balance] = await runCase(native, rig, redirect, item, quick ? ROUNDS.quick : ROUNDS.full);
      results.push(result);
      balances.push(balance);
    }
    return {
      results,
      plots: balancePlots(cases, balances),
      validation: {
        queues: {
          achieved: Math.max(...balances.map(({ used }) => used)),
          method:
            'Queues that packets were steered to, of the 32 of a veth device; their CPUs are those that this machine has, and 32 real ones it cannot show.',
        },
      },
    };
  },
};
