// SPDX-License-Identifier: Apache-2.0
/** An open device as the metrics see it. */
import { deviceText } from '../loader/pins.ts';
import { type Part, unavailable } from '../telemetry/metrics/part.ts';
import { readProgramRuns } from '../telemetry/metrics/programs.ts';
import {
  type DeviceDescription,
  type DeviceSample,
  DeviceSampler,
  defaultMetricSettings,
} from '../telemetry/metrics/sample.ts';
import {
  countFailover,
  countPlannedMoves,
  type FailoverCause,
  newSwitchCounters,
  type SwitchCounters,
} from '../telemetry/metrics/switches.ts';
import { topFlowBytes } from '../telemetry/metrics/top-flows.ts';
import type { SocketTimes } from '../telemetry/traces/socket-times.ts';
import { type Dataplane, programNames } from './dataplane.ts';
import { DeviceInstruments, type InstrumentParts } from './device-instruments.ts';
import type { AzChange, AzStatus } from './device-status.ts';
import { FlowTable } from './flow-table.ts';
import { onlineCpus } from './machine.ts';
import type { MachineTelemetry } from './machine-telemetry.ts';
import { type PerfReport, perfReport } from './perf-report.ts';
import type { DeviceRecord } from './record.ts';

/** Looking through the whole flow table is worth doing once for several scrapes. */
const TOP_FLOWS_FOR_MS = 5000;

export class DeviceMetrics {
  readonly #dataplane: Dataplane;
  readonly #sampler: DeviceSampler;
  readonly #telemetry: MachineTelemetry;
  readonly #instruments: DeviceInstruments;
  readonly #cpuNodes = new Map(onlineCpus().map(({ cpu, numaNode }) => [cpu, numaNode]));
  readonly #switches: SwitchCounters = newSwitchCounters();
  #topFlows: Part<bigint[]> = unavailable('the flow table is being looked through');
  #topFlowsUntilMs = 0;

  constructor(parts: InstrumentParts) {
    this.#dataplane = parts.dataplane;
    this.#telemetry = parts.telemetry;
    this.#sampler = new DeviceSampler(parts.dataplane);
    this.#instruments = new DeviceInstruments(parts);
  }

  /** Begins to count what is counted from the first look on. */
  begin(): void {
    this.#instruments.traces();
    this.#instruments.driverDrops();
    this.#instruments.socketTimes();
    this.#topFlowBytes();
  }

  socketTimes(): SocketTimes {
    return this.#instruments.socketTimes();
  }

  /** @param beside what goes on beside the packets */
  sample(
    record: DeviceRecord,
    azs: readonly AzStatus[],
    beside: Pick<DeviceDescription, 'coalescing' | 'redirect'>,
  ): DeviceSample {
    const dataplane = this.#dataplane;
    const programs = programNames.map((name) => [name, dataplane.program(name)] as const);
    return this.#sampler.read({
      device: deviceText(record.device),
      azs: azs.map(({ name, queues, state }) => ({ name, queues, up: state === 'up' })),
      cpuNodes: this.#cpuNodes,
      topFlowBytes: this.#topFlowBytes(),
      programs: readProgramRuns(dataplane.native, programs, this.#telemetry.countsRuns),
      traces: this.#instruments.traces(),
      driverDrops: this.#instruments.driverDrops(),
      socketTimes: this.#instruments.socketTimes(),
      switches: this.#switches,
      ...beside,
    });
  }

  perf(): PerfReport {
    const telemetry = this.#telemetry;
    return perfReport({
      dataplane: this.#dataplane,
      events: telemetry.perf(0),
      countsRuns: telemetry.countsRuns,
      traceMode: telemetry.traceMode,
      traces: this.#instruments.traces(),
      driverDrops: this.#instruments.driverDrops(),
    });
  }

  /** As they were found last. A scrape does not wait for the next walk, it only begins one. */
  #topFlowBytes(): Part<bigint[]> {
    const now = performance.now();
    if (now >= this.#topFlowsUntilMs) {
      this.#topFlowsUntilMs = now + TOP_FLOWS_FOR_MS;
      void this.#findTopFlows();
    }
    return this.#topFlows;
  }

  async #findTopFlows(): Promise<void> {
    try {
      using table = new FlowTable(this.#dataplane);
      this.#topFlows = await topFlowBytes(table, defaultMetricSettings.maxTopFlows);
    } catch (error) {
      this.#topFlows = unavailable(error instanceof Error ? error.message : String(error));
    }
  }

  countFailover({ az, plan, commitNs }: AzChange, cause: FailoverCause): void {
    countFailover(this.#switches, { az, cause, bucketsMoved: plan.summary, commitNs });
  }

  countPlanned({ plan }: AzChange): void {
    this.countPlannedBuckets(plan.summary.moved);
  }

  countPlannedBuckets(buckets: number): void {
    countPlannedMoves(this.#switches, buckets);
  }

  close(): void {
    this.#instruments.close();
  }
}
