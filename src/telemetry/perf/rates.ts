// SPDX-License-Identifier: Apache-2.0
/** What happened between two perf reports, a second and for each packet. Pure. */
import type { PerfCount } from './counters.ts';
import { perfEventNames } from './events.ts';

type Count = number | bigint;

/** What rates need of a report, as it comes from the API. */
export interface PerfCounts {
  takenMs: number;
  packets: { received: Count; steered: Count; dropped: Count };
  events: readonly {
    event: string;
    kind: PerfCount['kind'];
    unavailable: string | null;
    cpus: readonly { cpu: number; value: Count }[];
    countedShare: number | null;
  }[];
  programs: { runs: readonly { program: string; runs: Count; runTimeNs: Count }[] };
  traces: {
    value: {
      rings: readonly {
        cpu: number;
        ringFullDrops: Count;
        noMemoryDrops: Count;
        flow: { enqueued: Count; rounds: Count; sleeps: Count } | null;
      }[];
      redirectErrors: Readonly<Record<string, Count>>;
      exceptions: Readonly<Record<string, Count>>;
      polls: { polls: Count; packets: Count; exhausted: Count } | null;
    } | null;
    unavailable: string | null;
  };
  driverDrops: { value: readonly { driver: Count; unexplained: Count }[] | null; unavailable: string | null };
}

/** A number, or the reason why there is none. */
export interface Figure {
  value: number | null;
  unavailable: string | null;
}

export interface EventRate {
  event: string;
  kind: PerfCount['kind'];
  perSecond: Figure;
  /** Of everything that ran on the CPUs, by received packets. */
  perPacket: Figure;
  /** Below 1 it is extrapolated. */
  countedShare: number | null;
  perSecondByCpu: { cpu: number; value: number }[];
}

export interface ProgramRate {
  program: string;
  runsPerSecond: Figure;
  nsPerRun: Figure;
  /** Time in the program by received packets. */
  nsPerPacket: Figure;
}

/** Named differences a second. */
export interface TraceRate {
  name: string;
  perSecond: Figure;
}

export interface PerfRates {
  seconds: number;
  packets: { received: number; steered: number; dropped: number; receivedPerSecond: number };
  events: EventRate[];
  programs: ProgramRate[];
  traces: TraceRate[];
}

export const NO_PACKETS = 'no packet was received meanwhile';
const NOT_COUNTED = 'it is counted with daemon.telemetry.tracepoints: all';

const figure = (value: number): Figure => ({ value, unavailable: null });
const missing = (unavailable: string): Figure => ({ value: null, unavailable });
/** In bigint, which is exact where a counter is large. */
const between = (before: Count, after: Count): number => Number(BigInt(after) - BigInt(before));
const ratio = (value: number, by: number, reason: string): Figure => (by > 0 ? figure(value / by) : missing(reason));

/** @param notCounted why runs of programs are not counted, where none was counted */
export function perfRates(before: PerfCounts, after: PerfCounts, notCounted: string): PerfRates {
  const seconds = (after.takenMs - before.takenMs) / 1000;
  const packets = {
    received: between(before.packets.received, after.packets.received),
    steered: between(before.packets.steered, after.packets.steered),
    dropped: between(before.packets.dropped, after.packets.dropped),
  };
  return {
    seconds,
    packets: { ...packets, receivedPerSecond: packets.received / seconds },
    events: perfEventNames.flatMap((name) => eventRate(name, before, after, { seconds, packets: packets.received })),
    programs: programRates(before, after, { seconds, packets: packets.received, notCounted }),
    traces: traceRates(before, after, seconds),
  };
}

function eventRate(
  name: string,
  before: PerfCounts,
  after: PerfCounts,
  { seconds, packets }: { seconds: number; packets: number },
): EventRate[] {
  const last = after.events.find(({ event }) => event === name);
  if (last === undefined) return [];
  const { event, kind, countedShare } = last;
  if (last.unavailable !== null) {
    const none = missing(last.unavailable);
    return [{ event, kind, perSecond: none, perPacket: none, countedShare, perSecondByCpu: [] }];
  }
  const first = before.events.find((candidate) => candidate.event === name);
  const counts = last.cpus.map(({ cpu, value }) => ({
    cpu,
    value: between(first?.cpus.find((candidate) => candidate.cpu === cpu)?.value ?? 0, value),
  }));
  const total = counts.reduce((sum, { value }) => sum + value, 0);
  return [
    {
      event,
      kind,
      perSecond: figure(total / seconds),
      perPacket: ratio(total, packets, NO_PACKETS),
      countedShare,
      perSecondByCpu: counts.map(({ cpu, value }) => ({ cpu, value: value / seconds })),
    },
  ];
}

function programRates(
  before: PerfCounts,
  after: PerfCounts,
  { seconds, packets, notCounted }: { seconds: number; packets: number; notCounted: string },
): ProgramRate[] {
  const differences = after.programs.runs.map(({ program, runs, runTimeNs }) => {
    const first = before.programs.runs.find((candidate) => candidate.program === program);
    return { program, runs: between(first?.runs ?? 0, runs), ns: between(first?.runTimeNs ?? 0, runTimeNs) };
  });
  // With packets and without a single run, nobody counts.
  const isCounted = notCounted === '' || differences.some(({ runs }) => runs > 0);
  if (!isCounted) {
    const none = missing(notCounted);
    return differences.map(({ program }) => ({ program, runsPerSecond: none, nsPerRun: none, nsPerPacket: none }));
  }
  return differences.map(({ program, runs, ns }) => ({
    program,
    runsPerSecond: figure(runs / seconds),
    nsPerRun: ratio(ns, runs, 'it did not run meanwhile'),
    nsPerPacket: ratio(ns, packets, NO_PACKETS),
  }));
}

/** Names of the figures that tracepoints and the driver give, in the order of a report. */
function traceCounts({ traces, driverDrops }: PerfCounts): Map<string, Count | string> {
  const counts = new Map<string, Count | string>();
  const sum = (values: readonly Count[]): bigint => values.reduce<bigint>((total, value) => total + BigInt(value), 0n);
  const { value } = traces;
  const ofTraces = (name: string, pick: (found: NonNullable<typeof value>) => Count | string): void => {
    counts.set(name, value === null ? (traces.unavailable ?? '') : pick(value));
  };
  ofTraces('ring_full_drops', ({ rings }) => sum(rings.map((ring) => ring.ringFullDrops)));
  ofTraces('no_memory_drops', ({ rings }) => sum(rings.map((ring) => ring.noMemoryDrops)));
  ofTraces('redirect_errors', ({ redirectErrors }) => sum(Object.values(redirectErrors)));
  ofTraces('xdp_exceptions', ({ exceptions }) => sum(Object.values(exceptions)));
  for (const field of ['enqueued', 'rounds', 'sleeps'] as const) {
    ofTraces(`ring_${field}`, ({ rings }) =>
      rings.every(({ flow }) => flow === null) ? NOT_COUNTED : sum(rings.map(({ flow }) => flow?.[field] ?? 0n)),
    );
  }
  ofTraces('napi_polls', ({ polls }) => polls?.polls ?? NOT_COUNTED);
  ofTraces('napi_budget_exhausted', ({ polls }) => polls?.exhausted ?? NOT_COUNTED);
  const drops = driverDrops.value;
  counts.set('driver_drops', drops === null ? (driverDrops.unavailable ?? '') : sum(drops.map(({ driver }) => driver)));
  counts.set(
    'unexplained_drops',
    drops === null ? (driverDrops.unavailable ?? '') : sum(drops.map(({ unexplained }) => unexplained)),
  );
  return counts;
}

function traceRates(before: PerfCounts, after: PerfCounts, seconds: number): TraceRate[] {
  const first = traceCounts(before);
  return [...traceCounts(after)].map(([name, last]) => {
    const start = first.get(name);
    if (typeof last === 'string') return { name, perSecond: missing(last) };
    if (typeof start === 'string' || start === undefined) return { name, perSecond: missing('it began meanwhile') };
    return { name, perSecond: figure(between(start, last) / seconds) };
  });
}
