// SPDX-License-Identifier: Apache-2.0
/**
 * What is asked of an open device, its spec: rules, AZs, and whatever else the configuration says of it. A change is planned and
 * prepared beside what is in effect, recorded, and then switched to.
 */
import { validateAzs } from '../config/azs.ts';
import { type DeviceConfig, formatDevice } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import { deviceText } from '../loader/pins.ts';
import type { AzConfig } from '../steering/azs.ts';
import type { StateChange } from '../steering/plan-az.ts';
import { compareRules, reuseRules } from '../steering/rules/changes.ts';
import type { Rule } from '../steering/rules/model.ts';
import { shapingWarnings } from '../steering/rules/shaping.ts';
import { planRules, type RulePlan } from '../steering/rules/validate.ts';
import type { AzSteering, PreparedTable } from './az-steering.ts';
import type { Dataplane } from './dataplane.ts';
import type { DeviceMetrics } from './device-metrics.ts';
import { DeviceModel } from './device-model.ts';
import type { DeviceState } from './device-state.ts';
import type { AzChange, RuleSetChange } from './device-status.ts';
import { setOf } from './kernel-losses.ts';
import { canShape } from './machine.ts';
import type { DeviceRecord } from './record.ts';
import { chooseFor } from './redirect-facts.ts';
import type { Redirecting } from './redirecting.ts';
import { configureRtt } from './rtt.ts';
import type { RuleStore } from './rule-store.ts';
import { SteeringMoved, type TableStore } from './table-store.ts';

export interface DeviceSpecParts {
  dataplane: Dataplane;
  tables: TableStore;
  rules: RuleStore;
  steering: AzSteering;
  redirecting: Redirecting;
  state: DeviceState;
  metrics: () => DeviceMetrics;
}

export class DeviceSpec {
  readonly #parts: DeviceSpecParts;
  /** Of the rules that are in effect; made with the first change. */
  #plan: RulePlan | undefined;

  constructor(parts: DeviceSpecParts) {
    this.#parts = parts;
  }

  get #config(): DeviceConfig {
    return this.#parts.state.config;
  }

  get #record(): DeviceRecord {
    return this.#parts.state.record;
  }

  /** Names the rule set as it is: a change of it changes the tag. */
  get rulesTag(): string {
    const { settings, rulesRevision } = this.#record;
    return `${settings.hashSeed.toString(36)}-${rulesRevision.toString(36)}`;
  }

  /**
   * Replaces the whole set: validated, loaded beside the live one, recorded, switched by one store. A set that is the
   * same as the one that is there is only checked, and so is any with `dryRun`.
   */
  changeRules(rules: readonly Rule[], { dryRun }: { dryRun: boolean }): RuleSetChange {
    const before = this.#config.rules;
    const after = reuseRules(before, rules);
    const plan = this.#planRules(after);
    const changes = compareRules(before, after);
    const isSame = changes.added.length + changes.changed.length + changes.removed.length === 0;
    const canShape = this.#canShape(after);
    const shaping = canShape ? [] : shapingWarnings(after, this.#record.device.name);
    if (!dryRun && !isSame) this.#commit({ ...this.#config, rules: after }, plan, { canShape });
    return { ...changes, warnings: [...plan.warnings, ...shaping] };
  }

  /** Throws invalid_rule, capacity_exceeded, too_many_shapes. */
  #planRules(rules: readonly Rule[]): RulePlan {
    const options = { queues: this.#record.settings.queues, maxRules: this.#parts.dataplane.maxRules };
    return planRules(rules, options, this.#plan);
  }

  #canShape(rules: readonly Rule[]): boolean {
    return canShape(this.#parts.dataplane.native, this.#record.device, rules);
  }

  /** Rules and AZ prefixes are one set: both change with one store. */
  #commit(
    config: DeviceConfig,
    plan: RulePlan,
    { canShape = this.#canShape(config.rules), ...also }: Partial<DeviceRecord> & { canShape?: boolean } = {},
  ): void {
    const prepared = this.#parts.rules.prepare(plan, config.azs, canShape);
    const spec = formatDevice(config, { device: this.#config, user: this.#record.spec });
    this.#parts.state.save({ spec, ruleGeneration: prepared.generation, ...also });
    this.#parts.rules.activate(prepared);
    this.#plan = plan;
    this.#parts.state.setConfig(config);
  }

  /** AZs and rules in one transaction; spec-parts.ts says which of them changed. */
  replaceAzsAndRules(azs: readonly AzConfig[], rules: readonly Rule[], { dryRun }: { dryRun: boolean }): void {
    const spec = { ...this.#config, azs, rules: reuseRules(this.#config.rules, rules) };
    this.#planRules(spec.rules);
    if (dryRun) this.#planAzs(azs);
    else this.#changeSpec('*', spec);
  }

  /** Loads what is recorded as asked for once more. */
  load(): void {
    // What the live set holds is what is in doubt.
    this.#parts.rules.forget();
    this.#commit(this.#config, this.#planRules(this.#config.rules));
  }

  /** Adds or changes an AZ. Buckets move where its queues or weights ask for it. */
  setAz(az: AzConfig): AzChange {
    return this.#changeAzs(az.name, this.#withAz(az));
  }

  planSet(az: AzConfig): StateChange['plan'] {
    return this.#planAzs(this.#withAz(az));
  }

  /** Replaces all AZs; those that keep their name stay failed if they were. */
  replaceAzs(azs: readonly AzConfig[]): AzChange {
    return this.#changeAzs('*', azs);
  }

  planReplacement(azs: readonly AzConfig[]): StateChange['plan'] {
    return this.#planAzs(azs);
  }

  #failedAmong(azs: readonly AzConfig[]): DeviceRecord['failedAzs'] {
    return this.#record.failedAzs.filter((failed) => azs.some(({ name }) => name === failed.name));
  }

  deleteAz(name: string): AzChange {
    return this.#changeAzs(name, this.#withoutAz(name));
  }

  planDeletion(name: string): StateChange['plan'] {
    return this.#planAzs(this.#withoutAz(name));
  }

  #withAz(az: AzConfig): AzConfig[] {
    const isKnown = this.#config.azs.some((other) => other.name === az.name);
    if (!isKnown) return [...this.#config.azs, az];
    return this.#config.azs.map((other) => (other.name === az.name ? az : other));
  }

  #withoutAz(name: string): AzConfig[] {
    this.#parts.steering.named(name);
    return this.#config.azs.filter((az) => az.name !== name);
  }

  #planAzs(azs: readonly AzConfig[]): StateChange['plan'] {
    return this.#planSpec({ ...this.#config, azs }, this.#failedAmong(azs)).plan;
  }

  #planSpec(spec: DeviceConfig, failedAzs: DeviceRecord['failedAzs']): StateChange {
    validateAzs(spec.azs, this.#record.settings.queues);
    return this.#parts.steering.planSpec(spec, failedAzs);
  }

  #changeAzs(name: string, azs: readonly AzConfig[]): AzChange {
    return this.#changeSpec(name, { ...this.#config, azs });
  }

  /** AZs and rules together: the table and the rule set that belong to them are prepared first, then recorded. */
  #changeSpec(name: string, spec: DeviceConfig, also: Partial<DeviceRecord> = {}): AzChange {
    this.#parts.steering.adoptLosses();
    const earlier = this.#config.azs;
    const failedAzs = this.#failedAmong(spec.azs);
    const { state, plan: result } = this.#planSpec(spec, failedAzs);
    const lostAzs = setOf(DeviceModel.of(spec, this.#record.settings.queueCpus), failedAzs);
    const expected = this.#parts.tables.word();
    const prepared = this.#parts.steering.prepare(state, { lostAzs, expected }, spec.failover);
    this.#commit(spec, this.#planRules(spec.rules), {
      ...also,
      failedAzs,
      tableGeneration: prepared.generation,
      replacedWord: expected,
    });
    const commitNs = this.#activate(prepared);
    this.#parts.steering.configureWatch(earlier);
    configureRtt(this.#parts.dataplane, spec.rttSample, this.#record.settings.egress);
    this.#parts.redirecting.followQueues();
    const change = { az: name, plan: result, commitNs };
    this.#parts.metrics().countPlanned(change);
    return change;
  }

  /** The kernel may have lost an AZ since the change was planned: what is recorded is planned again then. */
  #activate(prepared: PreparedTable): number {
    try {
      return prepared.activate();
    } catch (error) {
      if (!(error instanceof SteeringMoved)) throw error;
      return this.#parts.steering.commitRecorded();
    }
  }

  /**
   * Takes over AZs and rules of the configuration file's section, unless it says what it said when it was last applied.
   * Throws `conflict` where it asks for what only a new attach can give.
   */
  applyConfig(section: DeviceConfig, configSha256: string): boolean {
    if (this.#record.configSha256 === configSha256) return false;
    const { settings, device } = this.#record;
    if (section.numQueues !== undefined && section.numQueues !== settings.queues) {
      const message = `${deviceText(device)} has ${settings.queues} queues, not ${section.numQueues}.`;
      throw new VnicError('conflict', message, { remedy: 'Detach it and attach it again to change num_queues.' });
    }
    const spec = { ...section, rules: reuseRules(this.#config.rules, section.rules) };
    const before = this.#config.redirect;
    // What cannot be is refused before anything is changed.
    const choice =
      section.redirect === before ? null : chooseFor(this.#parts.dataplane.native, this.#record, section.redirect);
    this.#changeSpec('*', spec, { configSha256 });
    if (choice !== null) this.#parts.redirecting.change(choice);
    return true;
  }
}
