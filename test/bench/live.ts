// SPDX-License-Identifier: Apache-2.0
/**
 * `BENCH=live`: what is dropped, limited, redirected and passed in a second, with packets that travel as fast as one CPU
 * makes them. It makes them and runs what is measured, as a network card's interrupt does; the other CPU takes what is redirected.
 */
import type { Native } from '../../src/loader/ffi/index.ts';
import {
  bare,
  type Contender,
  isThere,
  type Limiting,
  nftLimit,
  nftName,
  ourLimit,
  ours,
  type Peer,
  rps,
  tc,
  tcFilters,
  xdpBench,
} from './live-peers.ts';
import { LiveRig, LONGEST_FRAME, pinSender, TARGET_CPU } from './live-rig.ts';
import { measure, type Pair, quantile, type Subject, summary } from './measure.ts';
import { loadDataplane } from './packet-subjects.ts';
import type { BenchContext, Part, PartOutput } from './part.ts';
import type { Plot } from './plot.ts';
import { type Measured, notMeasured, type Result } from './result.ts';

const SIZES = { full: [64, 128, 256, 512, 1024, 1500, LONGEST_FRAME], quick: [64, 1500] } as const;
const ROUNDS = { full: 7, quick: 3 } as const;
const PACKETS = { full: 80_000, quick: 60_000 } as const;
const FLOWS = 1000;
/** Rules that none of the packets matches. */
const FILL = 1000;
/** Of each source: a tenth and less of what is offered. What passes goes to the stack of the same CPU, as with the peer. */
const LIMIT_PPS = 100;
const LIMIT_BURST = 4;
const TARGET_GBITS = 20;
/** What is offered must be so much more that most of it is over the limit. */
const MOST_PASSED = 0.5;

const udp = { proto: 'udp' };
const reached = { rate: `${LIMIT_PPS}pps`, burst: `${LIMIT_BURST} pkts`, scope: 'flow' };
/** It works for each packet and drops none: what this machine makes is far below it. */
const unreached = { rate: '100gbit', burst: '60000kb', scope: 'flow' };

type Counted = 'sent' | 'arrived';

class LiveBench implements Disposable {
  readonly #opened = new DisposableStack();
  readonly #rig: LiveRig;
  readonly #packets: number;
  readonly #limit: Limiting;
  readonly #nft: ReturnType<typeof nftLimit>;
  readonly #contenders: Record<'drop' | 'steer' | 'pass' | 'bareDrop' | 'bareRedirect' | 'barePass' | 'rps', Contender>;

  constructor(native: Native, packets: number) {
    this.#packets = packets;
    const rig = this.#opened.use(new LiveRig(native));
    this.#rig = rig;
    this.#opened.use(pinSender(native, 0));
    const load = (setting: Parameters<typeof loadDataplane>[1]) =>
      this.#opened.use(loadDataplane(native, { cpu: TARGET_CPU, fill: FILL, ...setting }));
    const rule = (rest: object) => [{ id: 1, match: udp, action: 'pass', ...rest }];
    this.#contenders = {
      drop: ours(rig, 'drop by rule', load({ rules: rule({ action: 'drop' }) })),
      steer: ours(rig, 'steer to a CPU, everything on', load({ rules: rule({ limit: unreached }) })),
      pass: ours(rig, 'pass', load({ isSteered: false })),
      bareDrop: bare(rig, 'bare XDP_DROP', rig.bare('bench_drop')),
      bareRedirect: bare(rig, 'bare CPUMAP redirect', rig.bare('bench_redirect')),
      barePass: bare(rig, 'bare XDP_PASS', rig.bare('bench_pass')),
      rps: rps(rig),
    };
    this.#limit = ourLimit(rig, 'limit of each source', load({ rules: rule({ limit: reached }), isSteered: false }));
    this.#nft = nftLimit(rig, LIMIT_PPS, LIMIT_BURST);
  }

  /** Peers that drop or limit, which not every machine has. */
  async peers(): Promise<Peer[]> {
    return [await xdpBench(this.#rig), tc(this.#rig, tcFilters.drop), tc(this.#rig, tcFilters.police)];
  }

  #subject(bytes: number, { name, start }: Contender, counted: Counted, after = (): void => {}): Subject {
    return {
      name: `${bytes} bytes: ${name}`,
      unit: 'Mpps',
      run: async () => {
        let rate: number;
        {
          using _ = await start();
          rate = this.#rig.rate(this.#packets, counted);
        }
        after();
        return rate;
      },
    };
  }

  async measure(bytes: number, rounds: number, peers: readonly Contender[]): Promise<Result[]> {
    this.#rig.load({ flows: FLOWS, mix: 'uniform', frames: [[bytes, 1]] });
    const { drop, steer, pass, bareDrop, bareRedirect, barePass, rps: kernels } = this.#contenders;
    const passed = { ours: [] as number[], nft: [] as number[] };
    const least = (bound: number) => (bytes === 64 ? ({ bound, boundIs: 'least' } as const) : {});
    const dropped = this.#subject(bytes, bareDrop, 'sent');
    const steered = this.#subject(bytes, steer, 'arrived');
    const pairs: Pair[] = [
      { floor: dropped, subject: this.#subject(bytes, drop, 'sent'), ...least(0.8) },
      { floor: this.#subject(bytes, bareRedirect, 'arrived'), subject: steered, ...least(0.9) },
      { floor: this.#subject(bytes, barePass, 'arrived'), subject: this.#subject(bytes, pass, 'arrived') },
      ...peers.map((peer) => ({ floor: dropped, subject: this.#subject(bytes, peer, 'sent') })),
    ];
    const nft = this.#nft;
    const limited = this.#subject(bytes, this.#limit.contender, 'sent', () =>
      passed.ours.push(this.#limit.passedShare()),
    );
    if ('reason' in nft) {
      pairs.push({ floor: dropped, subject: limited });
    } else {
      const floor = this.#subject(bytes, nft.contender, 'sent', () => passed.nft.push(nft.passedShare()));
      pairs.push({ floor, subject: limited, ...least(4) });
    }
    const toRps = this.#subject(bytes, { ...steer, name: `${steer.name}, to RPS` }, 'arrived');
    pairs.push({ floor: this.#subject(bytes, kernels, 'arrived'), subject: toRps });
    const results: Result[] = await measure(pairs, rounds);
    return results.map((result) => (result.name === limited.name ? honest(result, passed) : result));
  }

  /** Why the promise on the limit cannot be judged here, if so. */
  get withoutNft(): Result[] {
    return 'reason' in this.#nft ? [notMeasured('nft, dynamic set with a limit', 'Mpps', this.#nft.reason)] : [];
  }

  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}

/** What passed of what a limit was offered belongs to its figure; a limit that was not reached was not measured. */
function honest(result: Result, passed: Record<'ours' | 'nft', number[]>): Result {
  const [own, nft] = [quantile(passed.ours, 0.5), quantile(passed.nft, 0.5)];
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  if (own > MOST_PASSED || nft > MOST_PASSED) {
    return notMeasured(result.name, result.unit, `the limit was not reached: ${percent(Math.max(own, nft))} passed`);
  }
  return { ...result, detail: `${percent(own)} passed${Number.isNaN(nft) ? '' : `, nft: ${percent(nft)}`}` };
}

/** Of the frames as they are in memory: without preamble, check sequence and gap. */
const gbits = (mpps: number, bytes: number): number => (mpps * bytes * 8) / 1000;

function throughput(results: readonly Result[]): Measured[] {
  const steered = results.find(({ name }) => name === '1500 bytes: steer to a CPU, everything on');
  if (steered === undefined || steered.median === null) return [];
  const values = [steered.min!, steered.median, steered.max!].map((mpps) => gbits(mpps, 1500));
  const result = summary(
    { name: '1500 bytes, full pipeline', unit: 'Gbit/s' },
    values,
    values.map(() => TARGET_GBITS),
  );
  return [{ ...result, runs: steered.runs, bound: 1, boundIs: 'least' }];
}

function sizePlot(results: readonly Result[], sizes: readonly number[]): Plot {
  const names = ['drop by rule', 'limit of each source', 'pass', 'steer to a CPU, everything on'];
  const peers = ['bare XDP_DROP', nftName, 'bare XDP_PASS', 'bare CPUMAP redirect', 'RPS'];
  const lines = [...names, ...peers].map((name) => ({
    name,
    muted: peers.includes(name),
    points: sizes.flatMap((bytes): [number, number][] => {
      const result = results.find((candidate) => candidate.name === `${bytes} bytes: ${name}`);
      return result === undefined || result.median === null ? [] : [[bytes, result.median]];
    }),
  }));
  return {
    kind: 'lines',
    title: 'Throughput by frame size, one CPU that makes the packets too',
    x: { label: 'bytes', log: true, ticks: sizes },
    y: { label: 'Mpps' },
    lines: lines.filter(({ points }) => points.length > 0),
  };
}

async function benchLive({ native, quick }: BenchContext): Promise<PartOutput> {
  const form = quick ? 'quick' : 'full';
  using bench = new LiveBench(native, PACKETS[form]);
  const peers = await bench.peers();
  const results: Result[] = [];
  for (const bytes of SIZES[form]) results.push(...(await bench.measure(bytes, ROUNDS[form], peers.filter(isThere))));
  const [full] = throughput(results);
  const absent = peers.flatMap((peer) => (isThere(peer) ? [] : [notMeasured(peer.name, 'Mpps', peer.reason)]));
  const jumbo = notMeasured(
    '9000 bytes',
    'Mpps',
    `BPF_PROG_RUN makes frames of one page, ${LONGEST_FRAME} bytes at most; that longer ones take the same way is tested, not timed`,
  );
  return {
    results: [...results, ...(full === undefined ? [] : [full]), jumbo, ...bench.withoutNft, ...absent],
    plots: [sizePlot(results, SIZES[form])],
    ...(full === undefined
      ? {}
      : {
          validation: {
            throughput: {
              achieved: full.median,
              method: `1500-byte frames of ${FLOWS} flows from one CPU that makes them, through flow table, ${FILL + 1} rules, a limit of each flow and the steering table to another CPU; what arrived there, median of ${full.runs} rounds.`,
            },
          },
        }),
  };
}

export const livePart: Part = {
  name: 'live',
  title: `Mpps of ${FLOWS} flows and the ratio to the floor or the peer right before it (best of three bursts; median, quartiles); drop and limit: what was taken, the rest: what arrived`,
  digits: 2,
  run: benchLive,
};
