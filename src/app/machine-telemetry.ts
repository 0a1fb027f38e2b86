// SPDX-License-Identifier: Apache-2.0
/**
 * The kernel's own instruments, as this process uses them: perf events, tracepoints, the run times of BPF programs. All of
 * them end with the process.
 */
import type { TelemetryConfig } from '../config/daemon.ts';
import { VnicError } from '../errors.ts';
import { Fd } from '../loader/fd.ts';
import type { Native } from '../loader/ffi/index.ts';
import { BpfStatsType } from '../maps/generated/host.ts';
import { DriverDrops } from '../telemetry/driver-drops.ts';
import { type MachineSample, unmeasuredMachine } from '../telemetry/metrics/machine.ts';
import { type Part, unavailable } from '../telemetry/metrics/part.ts';
import { kernelCountsRuns } from '../telemetry/metrics/programs.ts';
import { type PerfCount, PerfCounters } from '../telemetry/perf/counters.ts';
import { kernelPerf } from '../telemetry/perf/kernel.ts';
import { type DeviceTraces, type TraceMode, tracepointNames } from '../telemetry/traces/model.ts';
import { noSocketTimes, SocketTimer, type SocketTimes } from '../telemetry/traces/socket-times.ts';
import { type DeviceTracing, type TracedDevice, Tracer } from '../telemetry/traces/tracer.ts';
import { onlineCpus, possibleCpuCount } from './machine.ts';

/** A file is read for it, which is worth doing once for several scrapes. */
const KERNEL_COUNTS_FOR_MS = 900;

const NO_DAEMON = 'only the daemon traces: vnicctl serve';
const SWITCHED_OFF = 'daemon.telemetry.tracepoints is off';
const SOCKETS_OFF = 'it is measured with daemon.telemetry.socket_latency: true';

/** Has the kernel count runs of BPF programs for as long as the descriptor is open (BPF_ENABLE_STATS). */
export function countProgramRuns(native: Native): Fd {
  return new Fd(native, native.check(native.libbpf.bpf_enable_stats(BpfStatsType.runTime), 'bpf_enable_stats'));
}

export class MachineTelemetry implements Disposable {
  readonly #native: Native;
  #perf: PerfCounters | null = null;
  #mode: TraceMode = 'off';
  #tracer: Tracer | null = null;
  /** Why there is no tracer. */
  #untraced = NO_DAEMON;
  #tracings = new Map<number, DeviceTracing>();
  #socketTimer: SocketTimer | null = null;
  /** Why there is none. */
  #untimed = NO_DAEMON;
  /** Whether this process says what is timed on the machine. */
  #timesSockets = false;
  readonly #driverDrops = new Map<number, DriverDrops>();
  #runStats: Fd | null = null;
  #kernelCounts = { value: false, untilMs: 0 };

  constructor(native: Native) {
    this.#native = native;
  }

  /**
   * Begins, or changes, what is measured. Other tracepoints begin to count at 0. Does not throw: what cannot be had is
   * reported in its place.
   */
  configure({ tracepoints, programStats, socketLatency }: TelemetryConfig): void {
    this.#openPerf();
    this.#configureSocketTimes(socketLatency);
    if (programStats !== (this.#runStats !== null)) {
      this.#runStats?.close();
      this.#runStats = programStats ? tryTo(() => countProgramRuns(this.#native)) : null;
    }
    if (tracepoints === this.#mode && (tracepoints === 'off' || this.#tracer !== null)) return;
    this.#endTracing();
    this.#mode = tracepoints;
    this.#untraced = SWITCHED_OFF;
    if (tracepoints === 'off') return;
    try {
      this.#tracer = new Tracer(this.#native, { mode: tracepoints, possibleCpus: possibleCpuCount() });
    } catch (error) {
      this.#untraced = error instanceof VnicError ? error.message : String(error);
    }
  }

  #configureSocketTimes(isWanted: boolean): void {
    this.#timesSockets = true;
    if (isWanted && this.#socketTimer !== null) return;
    this.#socketTimer?.close();
    this.#socketTimer = null;
    this.#untimed = SOCKETS_OFF;
    if (!isWanted) return;
    try {
      this.#socketTimer = new SocketTimer(this.#native, { possibleCpus: possibleCpuCount() });
    } catch (error) {
      this.#untimed = error instanceof VnicError ? error.message : String(error);
    }
  }

  #openPerf(): PerfCounters {
    this.#perf ??= new PerfCounters(kernelPerf(this.#native, () => onlineCpus().map(({ cpu }) => cpu)));
    return this.#perf;
  }

  /** Perf events of all CPUs; the first call begins to count. @param maxAgeMs how old the answer may be */
  perf(maxAgeMs?: number): PerfCount[] {
    return this.#openPerf().read(maxAgeMs);
  }

  /** Whether the kernel counts runs of BPF programs, because of this process or of the administrator. */
  get countsRuns(): boolean {
    if (this.#runStats !== null) return true;
    const nowMs = performance.now();
    if (nowMs >= this.#kernelCounts.untilMs) {
      this.#kernelCounts = { value: kernelCountsRuns(), untilMs: nowMs + KERNEL_COUNTS_FOR_MS };
    }
    return this.#kernelCounts.value;
  }

  get traceMode(): TraceMode {
    return this.#tracer?.mode ?? 'off';
  }

  get isTracing(): boolean {
    return this.#tracer !== null;
  }

  /** What tracepoints say of the device; the first call begins to count. */
  traces(device: TracedDevice): Part<DeviceTraces> {
    const tracer = this.#tracer;
    if (tracer === null) return unavailable(this.#untraced);
    const tracing = this.#tracings.get(device.mapId) ?? tracer.trace(device);
    this.#tracings.set(device.mapId, tracing);
    return tracing.read();
  }

  /**
   * Times to the queue of the socket, and what the device's `control.socket_place` has to say for them; null: that is for
   * another process to say.
   */
  socketTimes(mapId: number): { place: number | null; times: SocketTimes } {
    const timer = this.#socketTimer;
    if (timer === null) return { place: this.#timesSockets ? 0 : null, times: noSocketTimes(this.#untimed) };
    return { place: timer.placeOf(mapId), times: timer.read(mapId) };
  }

  /** Of one device, also when it is closed and opened again. @param mapId of its CPUMAP */
  driverDrops(mapId: number): DriverDrops {
    const drops = this.#driverDrops.get(mapId) ?? new DriverDrops();
    this.#driverDrops.set(mapId, drops);
    return drops;
  }

  /** Its counts stay until another device needs the place. */
  release(mapId: number): void {
    this.#tracings.get(mapId)?.release();
    this.#tracings.delete(mapId);
    this.#socketTimer?.release(mapId);
  }

  sample(): MachineSample {
    if (this.#perf === null) return unmeasuredMachine;
    const tracer = this.#tracer;
    return {
      perf: this.#perf.read(),
      tracepoints: tracepointNames.map((name) => ({
        name,
        unavailable: tracer === null ? this.#untraced : (tracer.state.get(name) ?? null),
      })),
      // Not measured: the daemon knows it.
      fleet: null,
      softirqs: tracer === null ? unavailable(this.#untraced) : tracer.softirqs(),
    };
  }

  #endTracing(): void {
    this.#tracings.clear();
    this.#tracer?.close();
    this.#tracer = null;
  }

  close(): void {
    this.#endTracing();
    this.#socketTimer?.close();
    this.#socketTimer = null;
    this.#runStats?.close();
    this.#runStats = null;
    this.#perf?.close();
    this.#perf = null;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function tryTo<T>(action: () => T): T | null {
  try {
    return action();
  } catch (error) {
    if (error instanceof VnicError) return null;
    throw error;
  }
}
