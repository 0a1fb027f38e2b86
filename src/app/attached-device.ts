// SPDX-License-Identifier: Apache-2.0
/** One attached device, open: what can be asked of it and changed in it. */

import { validateAzs } from '../config/azs.ts';
import { type DeviceConfig, formatDevice } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import { linkInfo } from '../loader/link.ts';
import { deviceText, type PinFolder } from '../loader/pins.ts';
import { VnicLimits, VnicRuleAction, VnicRuleState } from '../maps/generated/abi.ts';
import type { AzConfig } from '../steering/azs.ts';
import { effectiveQueues, failAz, recoverAz, type StateChange, type SteeringState } from '../steering/plan-az.ts';
import { plan } from '../steering/planner.ts';
import type { Rule } from '../steering/rules/model.ts';
import { shapingWarnings } from '../steering/rules/shaping.ts';
import { type RuleWarning, validateRules } from '../steering/rules/validate.ts';
import {
  type DataplaneCounters,
  type LatencySummary,
  type QueueCounters,
  readCounters,
  readLatency,
  readQueueCounters,
} from '../telemetry/counters.ts';
import { LINK_EGRESS, LINK_XDP } from './attach.ts';
import type { Dataplane } from './dataplane.ts';
import { DeviceModel } from './device-model.ts';
import { type Explanation, explainFrame } from './explain.ts';
import { type FlowNames, type FlowOrder, type FlowStatus, flowStatus } from './flows.ts';
import { canShape } from './machine.ts';
import type { DeviceRecord, RecordStore } from './record.ts';
import { RuleStore } from './rule-store.ts';
import { TableStore } from './table-store.ts';

export interface AttachedParts {
  dataplane: Dataplane;
  record: DeviceRecord;
  config: DeviceConfig;
  model: DeviceModel;
  records: RecordStore;
  pins: PinFolder;
}

export interface RuleCounters {
  packets: number;
  bytes: number;
  droppedPackets: number;
  droppedBytes: number;
}

export interface AzStatus {
  name: string;
  state: 'up' | 'failed';
  cause: string | null;
  since: string | null;
  weight: number;
  queues: readonly number[];
  config: AzConfig;
}

export interface AzChange {
  az: string;
  plan: StateChange['plan'];
  commitNs: number | null;
}

export interface Drift {
  what: string;
  spec: string;
  kernel: string;
}

export interface DeviceStatus {
  device: string;
  mode: 'native' | 'generic';
  egress: string;
  queues: number;
  ifindex: number;
  activeTable: number | null;
  ruleGeneration: number;
  rules: number;
  azs: AzStatus[];
  counters: DataplaneCounters;
  latency: LatencySummary;
  drift: Drift[];
}

export class AttachedDevice implements Disposable, FlowNames {
  readonly dataplane: Dataplane;
  readonly tables: TableStore;
  readonly rules: RuleStore;
  readonly #records: RecordStore;
  readonly #pins: PinFolder;
  #record: DeviceRecord;
  #config: DeviceConfig;
  #model: DeviceModel;

  constructor(parts: AttachedParts) {
    this.dataplane = parts.dataplane;
    this.tables = new TableStore(parts.dataplane);
    this.rules = new RuleStore(parts.dataplane);
    this.#records = parts.records;
    this.#pins = parts.pins;
    this.#record = parts.record;
    this.#config = parts.config;
    this.#model = parts.model;
  }

  get config(): DeviceConfig {
    return this.#config;
  }

  get record(): DeviceRecord {
    return this.#record;
  }

  azName(index: number): string | null {
    return this.#model.azName(index);
  }

  ruleId(slot: number, generation: number): number | null {
    const index = (generation % VnicLimits.ruleSets) * this.dataplane.maxRules + slot;
    const id = this.dataplane.ruleActions.u32(index, VnicRuleAction.offsets.ruleId);
    return id === 0 ? null : id;
  }

  status(): DeviceStatus {
    const { settings } = this.#record;
    using link = this.#pins.open(LINK_XDP);
    return {
      device: deviceText(this.#record.device),
      mode: settings.mode,
      egress: settings.egress,
      queues: settings.queues,
      ifindex: linkInfo(this.dataplane.native, link).ifindex,
      activeTable: this.tables.active(),
      ruleGeneration: this.rules.generation(),
      rules: this.#config.rules.length,
      azs: this.azs(),
      counters: readCounters(this.dataplane),
      latency: readLatency(this.dataplane),
      drift: this.drift(),
    };
  }

  /** Where the kernel differs from what was asked for. */
  drift(): Drift[] {
    const drift: Drift[] = [];
    const add = (what: string, spec: unknown, kernel: unknown): void => {
      drift.push({ what, spec: String(spec), kernel: String(kernel) });
    };
    if (this.rules.generation() !== this.#record.ruleGeneration) {
      add('rule generation', this.#record.ruleGeneration, this.rules.generation());
    }
    using link = this.#pins.open(LINK_XDP);
    if (linkInfo(this.dataplane.native, link).ifindex === 0) add('XDP link', 'attached', 'its device is gone');
    if (this.#record.settings.egress === 'tcx' && !this.#pins.exists(LINK_EGRESS)) add('egress link', 'tcx', 'missing');
    const wanted = this.#steering().current.usableQueues;
    const active = this.tables.active();
    const expected = this.#expectedMask();
    if (active !== null && wanted !== expected) {
      add('usable queues', `0x${expected.toString(16)}`, `0x${wanted.toString(16)}`);
    }
    return drift;
  }

  #expectedMask(): bigint {
    return this.#model.homeState(this.#record.failedAzs.map((az) => az.name)).current.usableQueues;
  }

  queues(): (QueueCounters & { az: string | null; cpu: number | null; usable: boolean })[] {
    const { queues } = this.#model.topology;
    const usable = this.#steering().current.usableQueues;
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

  flows(top: number, by: FlowOrder): FlowStatus[] {
    return flowStatus(this.dataplane, this, top, by);
  }

  explain(frame: Uint8Array, direction: 'ingress' | 'egress'): Explanation {
    return explainFrame(this.dataplane, frame, direction, this);
  }

  // --- rules ---------------------------------------------------------------

  ruleCounters(): Map<number, RuleCounters> {
    const counters = new Map<number, RuleCounters>();
    for (const [id, slot] of this.rules.slots()) {
      const field = (name: 'packets' | 'bytes' | 'droppedPackets' | 'droppedBytes'): number =>
        Number(this.dataplane.ruleStates.u64(slot, VnicRuleState.offsets[name]));
      counters.set(id, {
        packets: field('packets'),
        bytes: field('bytes'),
        droppedPackets: field('droppedPackets'),
        droppedBytes: field('droppedBytes'),
      });
    }
    return counters;
  }

  /** What replaceRules would complain of. Throws as it does; nothing is changed. */
  checkRules(rules: readonly Rule[]): RuleWarning[] {
    const warnings = validateRules(rules, { queues: this.#record.settings.queues, maxRules: this.dataplane.maxRules });
    return this.#canShape(rules) ? warnings : [...warnings, ...shapingWarnings(rules, this.#record.device.name)];
  }

  #canShape(rules: readonly Rule[]): boolean {
    return canShape(this.dataplane.native, this.#record.device, rules);
  }

  /** Replaces the whole set: validated, loaded beside the live one, recorded, switched by one store. */
  replaceRules(rules: readonly Rule[]): RuleWarning[] {
    const warnings = this.checkRules(rules);
    this.#commitConfig({ ...this.#config, rules });
    return warnings;
  }

  /** Rules and AZ prefixes are one set: both change with one store. */
  #commitConfig(config: DeviceConfig, failedAzs = this.#record.failedAzs): void {
    const prepared = this.rules.prepare(config.rules, config.azs, this.#canShape(config.rules));
    this.#save({ spec: formatDevice(config), ruleGeneration: prepared.generation, failedAzs });
    this.rules.activate(prepared);
    this.#config = config;
    this.#model = DeviceModel.of(config, this.#record.settings.queueCpus);
  }

  #save(change: Partial<DeviceRecord>): void {
    const record = { ...this.#record, ...change };
    this.#records.write(record);
    this.#record = record;
  }

  // --- AZs -----------------------------------------------------------------

  azs(): AzStatus[] {
    return this.#config.azs.map((config) => {
      const failed = this.#record.failedAzs.find((az) => az.name === config.name);
      return {
        name: config.name,
        state: failed === undefined ? 'up' : 'failed',
        cause: failed?.cause ?? null,
        since: failed?.since ?? null,
        weight: config.weight,
        queues: config.queues,
        config,
      };
    });
  }

  /** Home by the configuration, current as the kernel has it. */
  #steering(): SteeringState {
    const state = this.#model.homeState(this.#record.failedAzs.map((az) => az.name));
    const active = this.tables.active();
    return active === null ? state : { ...state, current: this.tables.read(active) };
  }

  /** What a failure of the AZ would do. Nothing is changed. */
  planFailure(name: string, force = false): StateChange['plan'] {
    return failAz(this.#steering(), this.#azIndex(name), { force }).plan;
  }

  planRecovery(name: string): StateChange['plan'] {
    return recoverAz(this.#steering(), this.#azIndex(name)).plan;
  }

  /** Takes an AZ's queues out of use: recorded first, then one store. */
  failAz(name: string, force = false, now = new Date()): AzChange {
    const change = failAz(this.#steering(), this.#azIndex(name), { force });
    const failedAzs = [...this.#record.failedAzs, { name, cause: 'manual' as const, since: now.toISOString() }];
    return this.#applyAzChange(name, change, failedAzs);
  }

  recoverAz(name: string): AzChange {
    const change = recoverAz(this.#steering(), this.#azIndex(name));
    return this.#applyAzChange(name, change, this.#failedWithout(name));
  }

  #applyAzChange(az: string, change: StateChange, failedAzs: DeviceRecord['failedAzs']): AzChange {
    const generation = this.tables.prepare(change.state.current);
    this.#save({ failedAzs });
    const { commitNs } = this.tables.activate(generation);
    return { az, plan: change.plan, commitNs: Number(commitNs) };
  }

  /** Adds or changes an AZ. Buckets move where its queues or weights ask for it. */
  setAz(az: AzConfig): AzChange {
    return this.#changeAzs(az.name, this.#withAz(az), this.#record.failedAzs);
  }

  /** What setAz would move. Nothing is changed. */
  planSet(az: AzConfig): StateChange['plan'] {
    return this.#planAzs(this.#withAz(az), this.#record.failedAzs).plan;
  }

  deleteAz(name: string): AzChange {
    return this.#changeAzs(name, this.#withoutAz(name), this.#failedWithout(name));
  }

  /** What deleteAz would move. Nothing is changed. */
  planDeletion(name: string): StateChange['plan'] {
    return this.#planAzs(this.#withoutAz(name), this.#failedWithout(name)).plan;
  }

  #withAz(az: AzConfig): AzConfig[] {
    const isKnown = this.#config.azs.some((other) => other.name === az.name);
    if (!isKnown) return [...this.#config.azs, az];
    return this.#config.azs.map((other) => (other.name === az.name ? az : other));
  }

  #withoutAz(name: string): AzConfig[] {
    this.#azIndex(name);
    return this.#config.azs.filter((az) => az.name !== name);
  }

  #failedWithout(name: string): DeviceRecord['failedAzs'] {
    return this.#record.failedAzs.filter((az) => az.name !== name);
  }

  #planAzs(azs: readonly AzConfig[], failedAzs: DeviceRecord['failedAzs']) {
    validateAzs(azs, this.#record.settings.queues);
    const config = { ...this.#config, azs };
    const model = DeviceModel.of(config, this.#record.settings.queueCpus);
    const next = model.homeState(failedAzs.map((az) => az.name));
    const { current } = this.#steering();
    return { config, plan: plan({ ...next, queues: effectiveQueues(next), current }) };
  }

  #changeAzs(name: string, azs: readonly AzConfig[], failedAzs: DeviceRecord['failedAzs']): AzChange {
    const { config, plan: result } = this.#planAzs(azs, failedAzs);
    const generation = this.tables.prepare(result.table);
    this.#commitConfig(config, failedAzs);
    const { commitNs } = this.tables.activate(generation);
    return { az: name, plan: result, commitNs: Number(commitNs) };
  }

  #azIndex(name: string): number {
    const index = this.#model.azIndex(name);
    if (index === 0) {
      throw new VnicError('not_found', `There is no AZ ${name}.`, {
        remedy: `Known AZs: ${this.#config.azs.map((az) => az.name).join(', ') || 'none'}`,
      });
    }
    return index;
  }

  close(): void {
    this.dataplane.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
