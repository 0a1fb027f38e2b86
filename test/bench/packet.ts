// SPDX-License-Identifier: Apache-2.0
/** `BENCH=packet`: nanoseconds of one packet through the whole ingress path, against a bare XDP_PASS. */
import path from 'node:path';
import type { Native } from '../../src/loader/ffi/index.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { type Growth, growths, lruPeer, type PacketCase, packetCases } from './cases.ts';
import { measure, type Pair, type Subject } from './measure.ts';
import { loadDataplane, Spread } from './packet-subjects.ts';
import type { Part } from './part.ts';
import type { Plot } from './plot.ts';
import type { Measured, Result } from './result.ts';
import { Stopwatch } from './run-time.ts';

const REPEAT = 1_000_000;
const ROUNDS = { full: 7, quick: 5 } as const;

const peers = [
  { name: lruPeer, program: 'bench_lru_hash' },
  { name: 'one look-up in the flow table', program: 'bench_flow_table' },
] as const;

/** @param objectFile another build of the programs, to compare with */
export async function benchPackets(
  native: Native,
  floorObject: string,
  { cases, rounds, objectFile }: { cases: readonly PacketCase[]; rounds: number; objectFile?: string },
): Promise<Measured[]> {
  using opened = new DisposableStack();
  const stopwatch = opened.use(new Stopwatch(native));
  const subject = (name: string, run: () => number): Subject => ({ name, unit: 'ns', run });
  const frame = packetCases.at(-1)!.frame;
  const floorProgram = opened.use(
    BpfObject.load(native, floorObject, {
      maps: { vnic_flow_sets: { maxEntries: 1 }, bench_order: { maxEntries: 1 } },
    }),
  );
  const program = (name: string) => opened.use(floorProgram.programFd(name));
  const pass = subject('floor: bare XDP_PASS', stopwatch.timer(program('bench_pass'), frame, REPEAT));
  const many = opened.use(new Spread(native, floorObject, { name: '', frame, flows: 1000 }));
  const spreadPass = subject('floor: XDP_PASS of many flows', stopwatch.timer(many.program, frame, REPEAT));
  const pairs: Pair[] = peers.map((peer) => ({
    floor: pass,
    subject: subject(peer.name, stopwatch.timer(program(peer.program), frame, REPEAT)),
  }));
  for (const item of cases) {
    const dataplane = opened.use(loadDataplane(native, item, objectFile));
    const root = dataplane.program('vnic_root');
    if (item.flows === undefined) {
      const run = stopwatch.timer(root, item.frame, REPEAT);
      pairs.push({ floor: pass, subject: subject(item.name, run), bound: item.bound ?? null });
    } else {
      const spread = opened.use(new Spread(native, floorObject, item, root));
      const run = stopwatch.timer(spread.program, item.frame, REPEAT);
      pairs.push({ floor: spreadPass, subject: subject(item.name, run), bound: item.bound ?? null });
    }
  }
  return await measure(pairs, rounds);
}

/** The ratio of two cases of one run, of the least of each: CPU time that something else took is only ever added. */
function growth(results: readonly Measured[], { name, from, to, bound }: Growth): Result[] {
  const low = results.find((result) => result.name === from);
  const high = results.find((result) => result.name === to);
  if (low === undefined || high === undefined) return [];
  return [
    {
      ...high,
      name,
      floor: low.min,
      ratio: high.min / low.min,
      ratioSpread: null,
      bound: bound ?? null,
    },
  ];
}

function costPlot(results: readonly Measured[]): Plot {
  return {
    kind: 'bars',
    title: 'Cost of one packet, by what is done with it',
    unit: 'ns a packet (lines: least and most of the rounds)',
    bars: results.map(({ name, median, min, max }) => ({
      label: name,
      value: median,
      low: min,
      high: max,
      muted: /^(floor|peer):/.test(name),
    })),
  };
}

export const packetPart: Part = {
  name: 'packet',
  title: 'ns a packet, and the ratio to the floor right before it (median of interleaved rounds, quartiles)',
  digits: 1,
  async run({ native, root, quick }) {
    const results = await benchPackets(native, path.join(root, 'build/test/bench_floor.bpf.o'), {
      cases: packetCases.filter((item) => !quick || item.quick === true),
      rounds: quick ? ROUNDS.quick : ROUNDS.full,
    });
    return {
      results: [...results, ...growths.flatMap((one) => growth(results, one))],
      plots: [costPlot(results)],
      validation: {
        cache_pressure: {
          achieved: null,
          method:
            'Cache misses are counted by hardware counters only; vnicctl perf shows them for two modes on a machine that has them.',
        },
      },
    };
  },
};
