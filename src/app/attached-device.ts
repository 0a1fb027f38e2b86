// SPDX-License-Identifier: Apache-2.0
/** One attached device, open: what can be asked of it and changed in it. */

import { validateAzs } from '../config/azs.ts';
import { type DeviceConfig, formatDevice } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import { linkInfo } from '../loader/link.ts';
import { deviceText, type PinFolder } from '../loader/pins.ts';
import { VnicLimits, VnicRuleAction, VnicRuleState } from '../maps/generated/abi.ts';
import type { AzConfig } from '../steering/azs.ts';
import type { StateChange } from '../steering/plan-az.ts';
import { compareRules, reuseRules } from '../steering/rules/changes.ts';
import type { Rule } from '../steering/rules/model.ts';
import { shapingWarnings } from '../steering/rules/shaping.ts';
import { planRules, type RulePlan } from '../steering/rules/validate.ts';
import { type QueueCounters, readCounters, readLatency, readQueueCounters } from '../telemetry/counters.ts';
import type { DeviceSample } from '../telemetry/metrics/sample.ts';
import { fillCpumap, LINK_XDP } from './attach.ts';
import { AzSteering, type PreparedTable, setOf } from './az-steering.ts';
import type { Dataplane } from './dataplane.ts';
import { DeviceMetrics } from './device-metrics.ts';
import { DeviceModel } from './device-model.ts';
import { DeviceState } from './device-state.ts';
import type {
  AzChange,
  AzFailure,
  AzStatus,
  DeviceStatus,
  RuleCounters,
  RuleSetChange,
  SteeringRow,
} from './device-status.ts';
import { type Drift, type DriftParts, findDrift, isInterrupted, repairsFor } from './drift.ts';
import { type Explanation, explainFrame } from './explain.ts';
import { FlowMeter, type FlowOrder } from './flow-meter.ts';
import { type FlowNames, type FlowStatus, flowStatus } from './flows.ts';
import { LoadSteering, type Preview, type PreviewAsked } from './load-steering.ts';
import { canShape } from './machine.ts';
import type { MachineTelemetry } from './machine-telemetry.ts';
import type { PerfReport } from './perf-report.ts';
import type { RebalanceAsked, RebalanceChange } from './rebalancing.ts';
import type { DeviceRecord, RecordStore } from './record.ts';
import { configureRtt } from './rtt.ts';
import { RuleStore } from './rule-store.ts';
import { SteeringMoved, TableStore } from './table-store.ts';

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
  readonly #state: DeviceState;
  readonly #load: LoadSteering;
  readonly flowMeter = new FlowMeter();
  readonly #pins: PinFolder;
  readonly #telemetry: MachineTelemetry;
  #metrics: DeviceMetrics | undefined;
  /** Of the rules that are in effect; made with the first change. */
  #plan: RulePlan | undefined;

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
      ifindex: this.#ifindex(),
      activeTable: this.tables.active(),
      ruleGeneration: this.rules.generation(),
      rules: this.config.rules.length,
      azs: this.azs(),
      counters: readCounters(this.dataplane),
      latency: readLatency(this.dataplane),
      drift: this.drift(),
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
    return this.metrics.sample(this.record, this.azs());
  }

  /** What the kernel's instruments say. */
  perf(): PerfReport {
    return this.metrics.perf();
  }

  #ifindex(): number {
    using link = this.#pins.open(LINK_XDP);
    return linkInfo(this.dataplane.native, link).ifindex;
  }

  /** Where the kernel differs from what was asked for. */
  drift(): Drift[] {
    return findDrift(this.#driftParts());
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
      ...this.steering.expected(),
    };
  }

  /**
   * Does what a process that was killed had recorded, and so may have acknowledged, but not switched to; gives what was
   * done.
   */
  finishInterrupted(): string[] {
    const parts = this.#driftParts();
    const generation = this.record.tableGeneration ?? null;
    const tableWaits = generation !== null && this.tables.isPrepared(generation);
    const actions = isInterrupted(parts) ? this.mend([{ what: 'rules', spec: '', kernel: '' }], true) : [];
    if (!tableWaits) return actions;
    this.tables.activate(generation, { lostAzs: this.steering.expected().lostAzs });
    return [...actions, 'switch to the steering table that was prepared'];
  }

  /**
   * Brings rules, table and CPUMAP to what is recorded; gives what was done. Links are the controller's: mending them
   * takes the device.
   */
  mend(drift: readonly Drift[], perform: boolean): string[] {
    const repairs = repairsFor(drift, this.config.rules.length, {
      cpumap: () => fillCpumap(this.dataplane, this.record.settings),
      rules: () => {
        // What the live set holds is what is in doubt.
        this.rules.forget();
        this.#commitConfig(this.config, this.#planRules(this.config.rules));
      },
      table: () => {
        this.steering.commitRecorded();
      },
      watch: () => this.steering.configureWatch(this.config.azs),
    });
    if (perform) for (const repair of repairs) repair.perform();
    return repairs.map(({ text }) => text);
  }

  queues(): (QueueCounters & { az: string | null; cpu: number | null; usable: boolean })[] {
    const { queues } = this.#state.model.topology;
    const usable = this.steering.usableQueues();
    return readQueueCounters(this.dataplane, queues.length).map((counters) => {
      const queue = queues[counters.queue];
      return {
        ...counters,
        az: queue === undefined || queue.az === null ? null : this.azName(queue.az),
        cpu: queue?.cpu ?? null,
        usable: ((usable >> BigInt(counters.queue)) & 1n) === 1n,
      };
    });
  }

  /** @param meter of an earlier look, where this object is not the one that looked */
  flows(top: number, by: FlowOrder, meter = this.flowMeter): FlowStatus[] {
    return flowStatus(this.dataplane, this, top, by, meter);
  }

  explain(frame: Uint8Array, direction: 'ingress' | 'egress'): Explanation {
    return explainFrame(this.dataplane, frame, direction, this);
  }

  /** Remembers whose programs run. */
  noteUpgrade(objectSha256: string): void {
    this.#state.save({ objectSha256 });
  }

  // --- rules ---------------------------------------------------------------

  /** Names the rule set as it is: a change of it changes the tag. */
  get rulesTag(): string {
    const { settings, rulesRevision } = this.record;
    return `${settings.hashSeed.toString(36)}-${rulesRevision.toString(36)}`;
  }

  /** Zero for a rule that the live set does not have. */
  countersOf(id: number): RuleCounters {
    const slot = this.rules.slotOf(id);
    const field = (name: keyof RuleCounters): number =>
      slot === undefined ? 0 : Number(this.dataplane.ruleStates.u64(slot, VnicRuleState.offsets[name]));
    return {
      packets: field('packets'),
      bytes: field('bytes'),
      droppedPackets: field('droppedPackets'),
      droppedBytes: field('droppedBytes'),
    };
  }

  /**
   * Replaces the whole set: validated, loaded beside the live one, recorded, switched by one store. A set that is the
   * same as the one that is there is only checked, and so is any with `dryRun`.
   */
  changeRules(rules: readonly Rule[], { dryRun }: { dryRun: boolean }): RuleSetChange {
    const before = this.config.rules;
    const after = reuseRules(before, rules);
    const plan = this.#planRules(after);
    const changes = compareRules(before, after);
    const isSame = changes.added.length + changes.changed.length + changes.removed.length === 0;
    const canShape = this.#canShape(after);
    const shaping = canShape ? [] : shapingWarnings(after, this.record.device.name);
    if (!dryRun && !isSame) this.#commitConfig({ ...this.config, rules: after }, plan, { canShape });
    return { ...changes, warnings: [...plan.warnings, ...shaping] };
  }

  /** Throws invalid_rule, capacity_exceeded, too_many_shapes. */
  #planRules(rules: readonly Rule[]): RulePlan {
    const options = { queues: this.record.settings.queues, maxRules: this.dataplane.maxRules };
    return planRules(rules, options, this.#plan);
  }

  #canShape(rules: readonly Rule[]): boolean {
    return canShape(this.dataplane.native, this.record.device, rules);
  }

  /** Rules and AZ prefixes are one set: both change with one store. */
  #commitConfig(
    config: DeviceConfig,
    plan: RulePlan,
    { canShape = this.#canShape(config.rules), ...also }: Partial<DeviceRecord> & { canShape?: boolean } = {},
  ): void {
    const prepared = this.rules.prepare(plan, config.azs, canShape);
    const spec = formatDevice(config, { device: this.config, user: this.record.spec });
    this.#state.save({ spec, ruleGeneration: prepared.generation, ...also });
    this.rules.activate(prepared);
    this.#plan = plan;
    this.#state.setConfig(config);
  }

  // --- AZs -----------------------------------------------------------------

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

  /** What a failure of the AZ would do. Nothing is changed. */
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
    return this.#load.rebalance(asked);
  }

  /** Takes an AZ's queues out of use. */
  failAz(name: string, failure: AzFailure = {}): AzChange {
    return this.steering.fail(name, failure);
  }

  recoverAz(name: string): AzChange {
    return this.steering.recover(name);
  }

  /** Adds or changes an AZ. Buckets move where its queues or weights ask for it. */
  setAz(az: AzConfig): AzChange {
    return this.#changeAzs(az.name, this.#withAz(az));
  }

  /** What setAz would move. Nothing is changed. */
  planSet(az: AzConfig): StateChange['plan'] {
    return this.#planAzs(this.#withAz(az));
  }

  /** Replaces all AZs; those that keep their name stay failed if they were. */
  replaceAzs(azs: readonly AzConfig[]): AzChange {
    return this.#changeAzs('*', azs);
  }

  /** What replaceAzs would move. Nothing is changed. */
  planReplacement(azs: readonly AzConfig[]): StateChange['plan'] {
    return this.#planAzs(azs);
  }

  #failedAmong(azs: readonly AzConfig[]): DeviceRecord['failedAzs'] {
    return this.record.failedAzs.filter((failed) => azs.some(({ name }) => name === failed.name));
  }

  deleteAz(name: string): AzChange {
    return this.#changeAzs(name, this.#withoutAz(name));
  }

  /** What deleteAz would move. Nothing is changed. */
  planDeletion(name: string): StateChange['plan'] {
    return this.#planAzs(this.#withoutAz(name));
  }

  #withAz(az: AzConfig): AzConfig[] {
    const isKnown = this.config.azs.some((other) => other.name === az.name);
    if (!isKnown) return [...this.config.azs, az];
    return this.config.azs.map((other) => (other.name === az.name ? az : other));
  }

  #withoutAz(name: string): AzConfig[] {
    this.azNamed(name);
    return this.config.azs.filter((az) => az.name !== name);
  }

  #planAzs(azs: readonly AzConfig[]): StateChange['plan'] {
    return this.#planSpec({ ...this.config, azs }, this.#failedAmong(azs)).plan;
  }

  #planSpec(spec: DeviceConfig, failedAzs: DeviceRecord['failedAzs']): StateChange {
    validateAzs(spec.azs, this.record.settings.queues);
    return this.steering.planSpec(spec, failedAzs);
  }

  #changeAzs(name: string, azs: readonly AzConfig[]): AzChange {
    return this.#changeSpec(name, { ...this.config, azs });
  }

  /** AZs and rules together: the table and the rule set that belong to them are prepared first, then recorded. */
  #changeSpec(name: string, spec: DeviceConfig, also: Partial<DeviceRecord> = {}): AzChange {
    this.steering.adoptLosses();
    const earlier = this.config.azs;
    const failedAzs = this.#failedAmong(spec.azs);
    const { state, plan: result } = this.#planSpec(spec, failedAzs);
    const lostAzs = setOf(DeviceModel.of(spec, this.record.settings.queueCpus), failedAzs);
    const prepared = this.steering.prepare(state, { lostAzs, expected: this.tables.word() }, spec.failover);
    const { generation } = prepared;
    this.#commitConfig(spec, this.#planRules(spec.rules), { ...also, failedAzs, tableGeneration: generation });
    const commitNs = this.#activate(prepared);
    this.steering.configureWatch(earlier);
    configureRtt(this.dataplane, spec.rttSample, this.record.settings.egress);
    const change = { az: name, plan: result, commitNs };
    this.metrics.countPlanned(change);
    return change;
  }

  /** The kernel may have lost an AZ since the change was planned: what is recorded is planned again then. */
  #activate(prepared: PreparedTable): number {
    try {
      return prepared.activate();
    } catch (error) {
      if (!(error instanceof SteeringMoved)) throw error;
      return this.steering.commitRecorded();
    }
  }

  /**
   * Takes over AZs and rules of the configuration file's section, unless it says what it said when it was last applied.
   * Throws `conflict` where it asks for what only a new attach can give.
   */
  applyConfig(section: DeviceConfig, configSha256: string): boolean {
    if (this.record.configSha256 === configSha256) return false;
    const { settings, device } = this.record;
    if (section.numQueues !== undefined && section.numQueues !== settings.queues) {
      const message = `${deviceText(device)} has ${settings.queues} queues, not ${section.numQueues}.`;
      throw new VnicError('conflict', message, { remedy: 'Detach it and attach it again to change num_queues.' });
    }
    const spec = { ...section, rules: reuseRules(this.config.rules, section.rules) };
    this.#changeSpec('*', spec, { configSha256 });
    return true;
  }

  close(): void {
    this.#metrics?.close();
    this.dataplane.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
