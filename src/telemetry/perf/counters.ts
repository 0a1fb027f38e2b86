// SPDX-License-Identifier: Apache-2.0
/**
 * Perf events of every online CPU. An event that had to share a hardware counter with others was counted for a part of the
 * time only; it is extrapolated to all of it, and `countedShare` says how much was counted.
 */
import type { PerfReading } from '../../loader/perf-event.ts';
import { NEVER_COUNTED, type PerfEvent, type PerfEventName, perfEvents, refusalReason } from './events.ts';

/** The kernel, as it is needed here. */
export interface PerfPort {
  onlineCpus(): number[];
  /** kernel.perf_event_paranoid; null where it cannot be read. */
  paranoid(): number | null;
  /** Begins to count; a refusal is the name of its errno. */
  open(event: PerfEvent, cpu: number): OpenPerfEvent | string;
  nowMs(): number;
}

export interface OpenPerfEvent {
  /** Null: it does not count any more. */
  read(): PerfReading | null;
  close(): void;
}

export interface PerfCpuValue {
  cpu: number;
  /** Since it was opened; extrapolated where it was not counted all the time. */
  value: bigint;
}

/** One event. Plain data. */
export interface PerfCount {
  event: PerfEventName;
  kind: PerfEvent['kind'];
  /** Null: it is counted. */
  unavailable: string | null;
  /** Empty where it is not counted. */
  cpus: PerfCpuValue[];
  /** Of the time for which it was asked for, 0 to 1: below 1 the values are extrapolated. Null where it is not counted. */
  countedShare: number | null;
}

/**
 * Turns readings into a count that never goes back: only what was counted since the last reading is extrapolated, by the
 * share of the time in which it was counted. What was not counted at all waits for the next reading.
 */
export class ScaledCount {
  value = 0n;
  enabledNs = 0n;
  runningNs = 0n;
  #last: PerfReading = { value: 0n, enabledNs: 0n, runningNs: 0n };

  add(reading: PerfReading): void {
    const counted = reading.value - this.#last.value;
    const enabledNs = reading.enabledNs - this.#last.enabledNs;
    const runningNs = reading.runningNs - this.#last.runningNs;
    this.enabledNs = reading.enabledNs;
    this.runningNs = reading.runningNs;
    if (runningNs <= 0n) return;
    this.value += runningNs >= enabledNs ? counted : (counted * enabledNs) / runningNs;
    this.#last = reading;
  }
}

interface CpuEvent {
  /** Null: its CPU went offline; what it had counted stays. */
  open: OpenPerfEvent | null;
  count: ScaledCount;
}

interface EventState {
  event: PerfEvent;
  cpus: Map<number, CpuEvent>;
  /** Of the last refusal. */
  refusal: string | null;
}

/** Each read interrupts the CPU (kernel/events/core.c, perf_event_read), so it is not done for every scrape. */
const READ_AT_MOST_EVERY_MS = 900;
/** Until then an event that was not counted may yet come to be. */
const GIVE_UP_AFTER_NS = 1_000_000_000n;

export class PerfCounters implements Disposable {
  readonly #port: PerfPort;
  readonly #states: EventState[];
  #read: { counts: PerfCount[]; atMs: number } | null = null;

  constructor(port: PerfPort, events: readonly PerfEvent[] = perfEvents) {
    this.#port = port;
    this.#states = events.map((event) => ({ event, cpus: new Map(), refusal: null }));
    for (const state of this.#states) this.#openMissing(state, port.onlineCpus());
  }

  /** @param maxAgeMs how old the answer may be; default most of a second */
  read(maxAgeMs = READ_AT_MOST_EVERY_MS): PerfCount[] {
    const nowMs = this.#port.nowMs();
    if (this.#read !== null && nowMs - this.#read.atMs < maxAgeMs) return this.#read.counts;
    const online = this.#port.onlineCpus();
    const counts = this.#states.map((state) => {
      this.#openMissing(state, online);
      return this.#count(state, online);
    });
    this.#read = { counts, atMs: nowMs };
    return counts;
  }

  /** A CPU that came online is counted from then on. What a machine does not have it is not asked for twice. */
  #openMissing(state: EventState, online: readonly number[]): void {
    if (state.refusal !== null && state.cpus.size === 0) return;
    for (const cpu of online) {
      const known = state.cpus.get(cpu);
      if (known !== undefined && known.open !== null) continue;
      const open = this.#port.open(state.event, cpu);
      if (typeof open === 'string') state.refusal = open;
      else if (known === undefined) state.cpus.set(cpu, { open, count: new ScaledCount() });
      else state.cpus.set(cpu, { open, count: continued(known.count) });
    }
  }

  #count({ event, cpus, refusal }: EventState, online: readonly number[]): PerfCount {
    for (const [cpu, state] of cpus) {
      const reading = online.includes(cpu) ? (state.open?.read() ?? null) : null;
      if (reading !== null) state.count.add(reading);
      else {
        state.open?.close();
        state.open = null;
      }
    }
    const none = { event: event.name, kind: event.kind, cpus: [], countedShare: null };
    if (cpus.size === 0) {
      return { ...none, unavailable: refusalReason(event, refusal ?? 'ENODEV', this.#port.paranoid()) };
    }
    const counts = [...cpus].map(([cpu, { count }]) => ({ cpu, count }));
    const enabledNs = counts.reduce((sum, { count }) => sum + count.enabledNs, 0n);
    const runningNs = counts.reduce((sum, { count }) => sum + count.runningNs, 0n);
    if (runningNs === 0n && enabledNs >= GIVE_UP_AFTER_NS) return { ...none, unavailable: NEVER_COUNTED };
    return {
      event: event.name,
      kind: event.kind,
      unavailable: null,
      cpus: counts.map(({ cpu, count }) => ({ cpu, value: count.value })).sort((a, b) => a.cpu - b.cpu),
      countedShare: enabledNs === 0n ? 1 : Math.min(1, Number(runningNs) / Number(enabledNs)),
    };
  }

  close(): void {
    for (const { cpus } of this.#states) {
      for (const state of cpus.values()) {
        state.open?.close();
        state.open = null;
      }
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A new event begins at 0; its CPU's count goes on. */
function continued(before: ScaledCount): ScaledCount {
  const count = new ScaledCount();
  count.value = before.value;
  return count;
}
