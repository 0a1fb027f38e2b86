// SPDX-License-Identifier: Apache-2.0
/** What the kernel's instruments say of a device and of the CPUs that work for it, at one moment: plain data. */

import { objectInfo } from '../loader/program.ts';
import { BpfProgInfo } from '../maps/generated/host.ts';
import { readCounters } from '../telemetry/counters.ts';
import type { QueueDriverDrops } from '../telemetry/driver-drops.ts';
import { type Measured, measured, type Part } from '../telemetry/metrics/part.ts';
import type { ProgramRuns } from '../telemetry/metrics/programs.ts';
import type { PerfCount } from '../telemetry/perf/counters.ts';
import { type DeviceTraces, exceptionActions, redirectErrors, type TraceMode } from '../telemetry/traces/model.ts';
import { type Dataplane, programNames } from './dataplane.ts';

export interface TraceReport {
  rings: DeviceTraces['rings'];
  redirectErrors: Record<string, bigint>;
  exceptions: Record<string, bigint>;
  polls: DeviceTraces['polls'];
}

export interface PerfReport {
  /** CLOCK_MONOTONIC: two reports of one machine are so far apart. */
  takenMs: number;
  packets: { received: bigint; steered: bigint; dropped: bigint };
  events: PerfCount[];
  programs: { counted: boolean; runs: ProgramRuns[] };
  traceMode: TraceMode;
  traces: Measured<TraceReport>;
  driverDrops: Measured<QueueDriverDrops[]>;
}

export interface PerfSources {
  dataplane: Dataplane;
  events: PerfCount[];
  countsRuns: boolean;
  traceMode: TraceMode;
  traces: Part<DeviceTraces>;
  driverDrops: Part<readonly QueueDriverDrops[]>;
}

function byName(names: readonly string[], counts: readonly bigint[]): Record<string, bigint> {
  return Object.fromEntries(names.map((name, index) => [name, counts[index] ?? 0n]));
}

export function perfReport({ dataplane, events, countsRuns, traceMode, traces, driverDrops }: PerfSources): PerfReport {
  const counters = readCounters(dataplane);
  const drops = Object.values(counters.drops).reduce((sum, packets) => sum + packets, 0n);
  return {
    takenMs: performance.timeOrigin + performance.now(),
    packets: { received: counters.rxPackets, steered: counters.redirected, dropped: drops },
    events,
    programs: {
      counted: countsRuns,
      runs: programNames.map((program) => {
        const info = BpfProgInfo.decode(objectInfo(dataplane.native, dataplane.program(program)));
        return { program, runs: info.runCnt, runTimeNs: info.runTimeNs };
      }),
    },
    traceMode,
    traces: measured(traces, (value) => ({
      rings: value.rings,
      redirectErrors: byName(redirectErrors, value.redirectErrors),
      exceptions: byName(exceptionActions, value.exceptions),
      polls: value.polls,
    })),
    driverDrops: measured(driverDrops, (value) => [...value]),
  };
}
