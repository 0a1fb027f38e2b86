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
import { type DeviceTracing, type TracedDevice, Tracer } from '../telemetry/traces/tracer.ts';
import { onlineCpus, possibleCpuCount } from './machine.ts';

const NO_DAEMON = 'only the daemon traces: vnicctl serve';
const SWITCHED_OFF = 'daemon.telemetry.tracepoints is off';

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
  readonly #driverDrops = new Map<number, DriverDrops>();
  #runStats: Fd | null = null;

  constructor(native: Native) {
    this.#native = native;
  }

  /**
   * Begins, or changes, what is measured. Other tracepoints begin to count at 0. Does not throw: what cannot be had is
   * reported in its place.
   */
  configure({ tracepoints, programStats }: TelemetryConfig): void {
    this.#openPerf();
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
    return this.#runStats !== null || kernelCountsRuns();
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
