// SPDX-License-Identifier: Apache-2.0
/** One attached device, open: what can be asked of it, and changed in it through its spec, steering and redirecting. */
import type { DeviceConfig } from '../config/device.ts';
import { linkInfo } from '../loader/link.ts';
import { deviceText, type PinFolder } from '../loader/pins.ts';
import { VnicLimits, VnicRuleAction } from '../maps/generated/abi.ts';
import type { StateChange } from '../steering/plan-az.ts';
import { readCounters, readLatency } from '../telemetry/counters.ts';
import type { DeviceSample } from '../telemetry/metrics/sample.ts';
import { readRuleCounters } from '../telemetry/rule-counters.ts';
import { fillCpumap, LINK_XDP } from './attach.ts';
import { AzSteering } from './az-steering.ts';
import type { Dataplane } from './dataplane.ts';
import { DeviceMetrics } from './device-metrics.ts';
import type { DeviceModel } from './device-model.ts';
import { DeviceSpec } from './device-spec.ts';
import { DeviceState } from './device-state.ts';
import type { AzChange, AzFailure, AzStatus, DeviceStatus, RuleCounters, SteeringRow } from './device-status.ts';
import { type Drift, type DriftParts, findDrift, isInterrupted, repairsFor } from './drift.ts';
import { type Explanation, explainFrame } from './explain.ts';
import { FlowMeter } from './flow-meter.ts';
import type { FlowNames } from './flows.ts';
import { LoadSteering, type Preview, type PreviewAsked } from './load-steering.ts';
import type { MachineTelemetry } from './machine-telemetry.ts';
import type { PerfReport } from './perf-report.ts';
import { type QueueStatus, queueStatuses } from './queue-status.ts';
import type { RebalanceAsked, RebalanceChange } from './rebalancing.ts';
import type { DeviceRecord, RecordStore } from './record.ts';
import { Redirecting } from './redirecting.ts';
import { RuleStore } from './rule-store.ts';
import { TableStore } from './table-store.ts';
import type { CoalescingStatus } from './tuning/auto-coalescing.ts';

export interface AttachedParts {
  dataplane: Dataplane;
  record: DeviceRecord;
  config: DeviceConfig;
  model: DeviceModel;
  records: RecordStore;
  pins: PinFolder;
  telemetry: MachineTelemetry;
}

export class AttachedDevice implements Disposable, FlowNames {
  readonly dataplane: Dataplane;
  readonly tables: TableStore;
  readonly rules: RuleStore;
  readonly steering: AzSteering;
  readonly redirecting: Redirecting;
  /** What is asked for, and changing it. */
  readonly spec: DeviceSpec;
  readonly #state: DeviceState;
  readonly #load: LoadSteering;
  readonly flowMeter = new FlowMeter();
  coalescing: CoalescingStatus | null = null;
  readonly #pins: PinFolder;
  readonly #telemetry: MachineTelemetry;
  #metrics: DeviceMetrics | undefined;

  constructor(parts: AttachedParts) {
    this.dataplane = parts.dataplane;
    this.tables = new TableStore(parts.dataplane);
    this.rules = new RuleStore(parts.dataplane);
    this.#state = new DeviceState(parts.records, parts.record, parts.config, parts.model);
    this.#pins = parts.pins;
    this.#telemetry = parts.telemetry;
    const { dataplane, tables } = this;
    this.steering = new AzSteering({ dataplane, tables, state: this.#state, metrics: () => this.metrics });
    const { steering } = this;
    this.redirecting = new Redirecting({ dataplane, tables, steering, state: this.#state });
    const { rules, redirecting } = this;
    this.spec = new DeviceSpec({
      dataplane,
      tables,
      rules,
      steering,
      redirecting,
      state: this.#state,
      metrics: () => this.metrics,
    });
    this.#load = new LoadSteering({ dataplane, steering, state: this.#state, metrics: () => this.metrics });
  }

  get config(): DeviceConfig {
    return this.#state.config;
  }

  get record(): DeviceRecord {
    return this.#state.record;
  }

  azName(index: number): string | null {
    return this.#state.model.azName(index);
  }

  ruleId(slot: number, generation: number): number | null {
    const index = (generation % VnicLimits.ruleSets) * this.dataplane.maxRules + slot;
    const id = this.dataplane.ruleActions.u32(index, VnicRuleAction.offsets.ruleId);
    return id === 0 ? null : id;
  }

  status(): DeviceStatus {
    const { settings } = this.record;
    return {
      device: deviceText(this.record.device),
      mode: settings.mode,
      egress: settings.egress,
      queues: settings.queues,
      redirect: this.redirecting.status(),
      ifindex: this.#ifindex(),
      activeTable: this.tables.active(),
      ruleGeneration: this.rules.generation(),
      rules: this.config.rules.length,
      azs: this.azs(),
      counters: readCounters(this.dataplane),
      latency: readLatency(this.dataplane),
      drift: this.drift(),
      coalescing: this.coalescing,
      damagedFiles: this.#state.damagedFiles(),
    };
  }

  /** Made on first use: a command that is soon over has no use for it. */
  get metrics(): DeviceMetrics {
    this.#metrics ??= new DeviceMetrics({
      dataplane: this.dataplane,
      telemetry: this.#telemetry,
      device: this.record.device,
      ifindex: this.#ifindex(),
    });
    return this.#metrics;
  }

  /** What is counted in this process only is counted from now on. */
  beginMeasuring(): void {
    this.metrics.begin();
  }

  sample(): DeviceSample {
    return this.metrics.sample(this.record, this.azs(), {
      coalescing: this.coalescing,
      redirect: this.redirecting.sample(),
    });
  }

  /** What the kernel's instruments say. */
  perf(): PerfReport {
    return this.metrics.perf();
  }

  #ifindex(): number {
    using link = this.#pins.open(LINK_XDP);
    return linkInfo(this.dataplane.native, link).ifindex;
  }

  /** Where the kernel differs from what was asked for; `countAgeMs`: see findDrift. */
  drift(countAgeMs = 0): Drift[] {
    return findDrift(this.#driftParts(), countAgeMs);
  }

  #driftParts(): DriftParts {
    return {
      dataplane: this.dataplane,
      rules: this.rules,
      tables: this.tables,
      pins: this.#pins,
      record: this.record,
      ruleCount: this.config.rules.length,
      config: this.config,
      lostSettings: this.redirecting.lost(),
      ...this.steering.expected(),
    };
  }

  /**
   * Does what a process that was killed had recorded, and so may have acknowledged, but not switched to; gives what was
   * done.
   */
  finishInterrupted(): string[] {
    const parts = this.#driftParts();
    const actions = isInterrupted(parts) ? this.mend([{ what: 'rules', spec: '', kernel: '' }], true) : [];
    if (!this.steering.finishInterrupted()) return actions;
    return [...actions, 'switch to the steering table that was prepared'];
  }

  /**
   * Brings rules, table and CPUMAP to what is recorded; gives what was done. Links are the controller's: mending them
   * takes the device.
   */
  mend(drift: readonly Drift[], perform: boolean): string[] {
    const repairs = repairsFor(drift, this.config.rules.length, {
      cpumap: () => fillCpumap(this.dataplane, this.record.settings),
      rules: () => this.spec.load(),
      table: () => {
        this.steering.commitRecorded();
      },
      watch: () => this.steering.configureWatch(this.config.azs),
      device: () => this.redirecting.tell(),
    });
    if (perform) for (const repair of repairs) repair.perform();
    return repairs.map(({ text }) => text);
  }

  queues(): QueueStatus[] {
    return queueStatuses(this.dataplane, this.#state.model, this.steering.usableQueues());
  }

  explain(frame: Uint8Array, direction: 'ingress' | 'egress'): Explanation {
    return explainFrame(this.dataplane, frame, direction, this);
  }

  /** Remembers whose programs run. */
  noteUpgrade(objectSha256: string): void {
    this.#state.save({ objectSha256 });
  }

  /** Zero for a rule that the live set lacks. */
  countersOf(id: number): RuleCounters {
    const slot = this.rules.slotOf(id);
    if (slot === undefined) return { packets: 0, bytes: 0, droppedPackets: 0, droppedBytes: 0 };
    const { packets, bytes, droppedPackets, droppedBytes } = readRuleCounters(this.dataplane, slot, id);
    return {
      packets: Number(packets),
      bytes: Number(bytes),
      droppedPackets: Number(droppedPackets),
      droppedBytes: Number(droppedBytes),
    };
  }

  // --- AZs; plan… says what a change would move, and changes nothing ----------

  azs(): AzStatus[] {
    return this.steering.statuses();
  }

  /** Throws `not_found`. */
  azNamed(name: string): AzStatus {
    return this.steering.named(name);
  }

  /** The table that packets meet, row by row. */
  steeringTable(): { generation: number | null; usableQueues: number[]; rows: SteeringRow[] } {
    return this.steering.table();
  }

  planFailure(name: string, force = false): StateChange['plan'] {
    return this.steering.planFailure(name, force).plan;
  }

  planRecovery(name: string): StateChange['plan'] {
    return this.steering.planRecovery(name).plan;
  }

  /** What failing or recovering an AZ would do to buckets, flows and queues. Nothing is changed. */
  preview(az: string, asked: PreviewAsked = {}): Preview {
    return this.#load.preview(az, asked);
  }

  /** Moves buckets between queues by their measured load. */
  rebalance(asked: RebalanceAsked = {}): RebalanceChange {
    return this.#followed(this.#load.rebalance(asked));
  }

  /** Takes an AZ's queues out of use. */
  failAz(name: string, failure: AzFailure = {}): AzChange {
    return this.#followed(this.steering.fail(name, failure));
  }

  recoverAz(name: string): AzChange {
    return this.#followed(this.steering.recover(name));
  }

  #followed<Change>(change: Change): Change {
    this.redirecting.followQueues();
    return change;
  }

  close(): void {
    this.#metrics?.close();
    this.dataplane.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
