// SPDX-License-Identifier: Apache-2.0
/** What tracepoints tell of a device, as plain data. Pure. */
import { VnicException, VnicRedirectError, type VnicTraceDevice } from '../../maps/generated/abi.ts';
import { snakeCase } from '../counters.ts';

/** `basic`: what is dropped, which costs next to nothing; `all`: also what happens for every batch of packets. */
export type TraceMode = 'basic' | 'all' | 'off';

/** Names of the kernel's tracepoints. */
export const tracepointNames = [
  'xdp_cpumap_enqueue',
  'xdp_cpumap_kthread',
  'xdp_redirect_err',
  'xdp_exception',
  'napi_poll',
  'softirq_entry',
  'softirq_exit',
] as const;
export type TracepointName = (typeof tracepointNames)[number];

export interface Tracepoint {
  name: TracepointName;
  /** In bpf/vnic_trace.bpf.c. */
  program: string;
  mode: 'basic' | 'all';
}

export const tracepoints: readonly Tracepoint[] = [
  { name: 'xdp_cpumap_enqueue', program: 'vnic_trace_enqueue', mode: 'basic' },
  { name: 'xdp_cpumap_kthread', program: 'vnic_trace_thread', mode: 'basic' },
  { name: 'xdp_redirect_err', program: 'vnic_trace_redirect_err', mode: 'basic' },
  { name: 'xdp_exception', program: 'vnic_trace_exception', mode: 'basic' },
  { name: 'napi_poll', program: 'vnic_trace_poll', mode: 'all' },
  { name: 'softirq_entry', program: 'vnic_trace_softirq_in', mode: 'all' },
  { name: 'softirq_exit', program: 'vnic_trace_softirq_out', mode: 'all' },
];

function namesOf(values: Readonly<Record<string, number>>, count: number): readonly string[] {
  return Object.entries(values)
    .filter(([, value]) => value < count)
    .sort(([, a], [, b]) => a - b)
    .map(([name]) => snakeCase(name));
}

export const redirectErrors = namesOf(VnicRedirectError, VnicRedirectError.errors);
export const exceptionActions = namesOf(VnicException, VnicException.exceptions);

/** Of one device, since its tracing began. */
export interface DeviceTraces {
  /** By CPU whose ring it is; only CPUs that have one or had a drop. */
  rings: {
    cpu: number;
    ringFullDrops: bigint;
    noMemoryDrops: bigint;
    /** Null where only drops are counted. */
    flow: { enqueued: bigint; taken: bigint; rounds: bigint; sleeps: bigint } | null;
  }[];
  /** By each of `redirectErrors`. */
  redirectErrors: bigint[];
  /** By each of `exceptionActions`. */
  exceptions: bigint[];
  /** Null where polls are not counted. */
  polls: { polls: bigint; packets: bigint; exhausted: bigint } | null;
}

/** @param cells of each CPU; @param ringCpus those that queues have */
export function deviceTraces(
  cells: readonly VnicTraceDevice[],
  ringCpus: ReadonlySet<number>,
  counted: { batches: boolean; polls: boolean },
): DeviceTraces {
  const sum = (pick: (cell: VnicTraceDevice) => bigint): bigint =>
    cells.reduce((total, cell) => total + pick(cell), 0n);
  return {
    rings: cells
      .map((cell, cpu) => ({ cell, cpu }))
      .filter(({ cell, cpu }) => ringCpus.has(cpu) || cell.ringFullDrops > 0n || cell.noMemoryDrops > 0n)
      .map(({ cell: { ringFullDrops, noMemoryDrops, enqueued, taken, rounds, sleeps }, cpu }) => ({
        cpu,
        ringFullDrops,
        noMemoryDrops,
        flow: counted.batches ? { enqueued, taken, rounds, sleeps } : null,
      })),
    redirectErrors: redirectErrors.map((_, reason) => sum((cell) => cell.redirectErrors[reason] ?? 0n)),
    exceptions: exceptionActions.map((_, action) => sum((cell) => cell.exceptions[action] ?? 0n)),
    polls: counted.polls
      ? {
          polls: sum((cell) => cell.polls),
          packets: sum((cell) => cell.polledPackets),
          exhausted: sum((cell) => cell.exhaustedPolls),
        }
      : null,
  };
}

/** Soft interrupts NET_RX of one CPU. */
export interface SoftirqTime {
  cpu: number;
  runs: bigint;
  timeNs: bigint;
}
