// SPDX-License-Identifier: Apache-2.0
/**
 * AZs of an open device: which are out of use, what that does to the steering table, and the tables that stand by for
 * the next loss. The kernel's watch takes AZs out of use as well; whoever changes something takes over first what it did.
 */
import type { DeviceConfig } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import type { AzConfig } from '../steering/azs.ts';
import type { FailoverConfig } from '../steering/failover.ts';
import { failAz, recoverAz, replan, type StateChange, type SteeringState } from '../steering/plan-az.ts';
import { standbyTables } from '../steering/standby.ts';
import { queuesOf } from '../steering/table.ts';
import { configureWatch } from './az-watch.ts';
import { azWatchStatus } from './az-watch-status.ts';
import { writeBfdSessions } from './bfd-sessions.ts';
import type { Dataplane } from './dataplane.ts';
import type { DeviceMetrics } from './device-metrics.ts';
import { DeviceModel } from './device-model.ts';
import type { DeviceState } from './device-state.ts';
import {
  type AzChange,
  type AzFailure,
  type AzStatus,
  azStatuses,
  type SteeringRow,
  steeringRows,
} from './device-status.ts';
import { bitOf, type KernelLoss, KernelLosses, setOf } from './kernel-losses.ts';
import type { DeviceRecord, FailedAz } from './record.ts';
import { SteeringMoved, type SteeringWord, type TableStore } from './table-store.ts';

/** How often a change is planned again because the kernel was faster. */
const TRIES = 8;

export interface AzSteeringParts {
  dataplane: Dataplane;
  tables: TableStore;
  state: DeviceState;
  metrics: () => DeviceMetrics;
}

/** An AZ that the kernel took out of use. */
export interface AdoptedLoss extends AzChange {
  failed: FailedAz;
  silentMs: number | null;
}

/** A table that is written and recorded by its maker, then made active. */
export interface PreparedTable {
  generation: number;
  activate(): number;
}

export class AzSteering {
  readonly #dataplane: Dataplane;
  readonly #tables: TableStore;
  readonly #state: DeviceState;
  readonly #metrics: () => DeviceMetrics;
  readonly #losses: KernelLosses;
  readonly #adopted: AdoptedLoss[] = [];

  constructor({ dataplane, tables, state, metrics }: AzSteeringParts) {
    this.#dataplane = dataplane;
    this.#tables = tables;
    this.#state = state;
    this.#metrics = metrics;
    this.#losses = new KernelLosses({ dataplane, tables, state });
  }

  // --- what is there ---------------------------------------------------------

  /** Also what the kernel took out of use and nobody has recorded yet. */
  statuses(): AzStatus[] {
    const { azs } = this.#state.config;
    return azStatuses(azs, this.#failedAzs(), azWatchStatus(this.#dataplane, azs));
  }

  /** Throws `not_found`. */
  named(name: string): AzStatus {
    return this.statuses()[this.rowOf(name) - 1]!;
  }

  /** The AZ's row in the steering table. Throws `not_found`. */
  rowOf(name: string): number {
    const { model, config } = this.#state;
    const row = model.azIndex(name);
    if (row !== 0) return row;
    throw new VnicError('not_found', `There is no AZ ${name}.`, {
      remedy: `Known AZs: ${config.azs.map((az) => az.name).join(', ') || 'none'}`,
    });
  }

  /** The table that packets meet, row by row. */
  table(): { generation: number | null; usableQueues: number[]; rows: SteeringRow[] } {
    const generation = this.#tables.active();
    if (generation === null) return { generation, usableQueues: [], rows: [] };
    const { rows, usableQueues } = this.#tables.read(generation);
    const azNames = [null, ...this.#state.config.azs.map(({ name }) => name)];
    return { generation, usableQueues: queuesOf(usableQueues), rows: steeringRows(rows, azNames) };
  }

  /** Home by the configuration, current as the kernel has it. */
  steering(): SteeringState {
    const state = this.recordedState();
    const active = this.#tables.active();
    return active === null ? state : { ...state, current: this.#tables.read(active) };
  }

  /** Bit mask of the queues that the active table uses, or would use if steering were on. */
  usableQueues(): bigint {
    const active = this.#tables.active();
    return active === null ? this.recordedState().current.usableQueues : this.#tables.usableQueues(active);
  }

  /** What is recorded, whatever the kernel has. */
  recordedState(): SteeringState {
    const { model, record } = this.#state;
    return model.homeState(namesOf(record.failedAzs), record.homeMoves);
  }

  /** What the kernel must have: what is recorded, and what it took out of use by itself since. */
  expected(): { usableQueues: bigint; lostAzs: number } {
    const { model, record } = this.#state;
    const failed = this.#failedAzs();
    const { current } = model.homeState(namesOf(failed), record.homeMoves);
    return { usableQueues: current.usableQueues, lostAzs: setOf(model, failed) };
  }

  /** Those that are recorded, and those that the kernel took out of use since. */
  #failedAzs(): FailedAz[] {
    return [...this.#state.record.failedAzs, ...this.#losses.list().map(({ failed }) => failed)];
  }

  // --- plans -------------------------------------------------------------------

  /** What a failure of the AZ would do. Nothing is changed. */
  planFailure(name: string, force = false): StateChange {
    return failAz(this.steering(), this.rowOf(name), this.#policy(force));
  }

  planRecovery(name: string): StateChange {
    return recoverAz(this.steering(), this.rowOf(name));
  }

  /** What other AZs would move. Nothing is changed. */
  planSpec(spec: DeviceConfig, failedAzs: DeviceRecord['failedAzs']): StateChange {
    const { record } = this.#state;
    const model = DeviceModel.of(spec, record.settings.queueCpus);
    const next = model.homeState(namesOf(failedAzs), record.homeMoves);
    const now = this.steering();
    return replan({ ...next, current: now.current }, now);
  }

  #policy(force: boolean) {
    return { force, panicShare: this.#state.config.failover.panicShare };
  }

  // --- changes -----------------------------------------------------------------

  /**
   * Takes an AZ out of use: the switch first, if its table stands by, then the record. A failure that was found and
   * cannot be recorded stays; one that was asked for is taken back. Throws `not_found`, `conflict`, `policy_refused`.
   */
  fail(name: string, { force = false, cause = 'manual', evidence, now = new Date() }: AzFailure = {}): AzChange {
    const start = process.hrtime.bigint();
    const failed: FailedAz = { name, cause, since: now.toISOString(), ...(evidence === undefined ? {} : { evidence }) };
    return this.#repeated(() => {
      const index = this.rowOf(name);
      if (cause === 'fleet' && namesOf(this.#state.record.failedAzs).includes(name)) return this.#takeOver(failed);
      const before = this.#tables.word();
      const lostAzs = before.lostAzs | bitOf(index);
      const standby = lostAzs === before.lostAzs ? null : this.#tables.standbyFor(lostAzs);
      if (standby === null || before.table === null) return this.#failUnprepared(failed, force, before);
      this.#tables.activate(standby, { expected: before, lostAzs, settleMs: this.#settleMs() });
      const commitNs = Number(process.hrtime.bigint() - start);
      const steering = { ...this.recordedState(), current: this.#tables.read(before.table) };
      const change = failAz(steering, index, { force: true });
      const recorded: Partial<DeviceRecord> = {
        failedAzs: [...this.#state.record.failedAzs, failed],
        tableGeneration: standby,
        replacedWord: undefined,
      };
      try {
        this.#state.save(recorded);
      } catch (error) {
        if (cause === 'manual' || cause === 'fleet') this.#tables.activate(before.table, { lostAzs: before.lostAzs });
        else this.#state.note(recorded);
        throw error;
      }
      this.refreshStandbys();
      return this.#counted({ az: name, plan: change.plan, commitNs }, cause);
    });
  }

  /** It is out of use already: from now on by the fleet, so that no detector here takes it back. Nothing moves. */
  #takeOver(failed: FailedAz): AzChange {
    const failedAzs = this.#state.record.failedAzs.map((known) => (known.name === failed.name ? failed : known));
    this.#state.save({ failedAzs });
    return { az: failed.name, plan: replan(this.recordedState()).plan, commitNs: null };
  }

  #failUnprepared(failed: FailedAz, force: boolean, expected: SteeringWord): AzChange {
    const change = this.planFailure(failed.name, force);
    const failedAzs = [...this.#state.record.failedAzs, failed];
    const commitNs = this.#commit(change.state, { failedAzs }, expected);
    return this.#counted({ az: failed.name, plan: change.plan, commitNs }, failed.cause);
  }

  #counted(change: AzChange, cause: FailedAz['cause']): AzChange {
    this.#metrics().countFailover(change, cause);
    return change;
  }

  /** Takes an AZ into use again, in order. Throws `not_found`, `conflict`. */
  recover(name: string): AzChange {
    return this.#repeated(() => {
      const expected = this.#tables.word();
      const change = this.planRecovery(name);
      const failedAzs = this.#state.record.failedAzs.filter((az) => az.name !== name);
      const commitNs = this.#commit(change.state, { failedAzs }, expected);
      const result = { az: name, plan: change.plan, commitNs };
      this.#metrics().countPlanned(result);
      return result;
    });
  }

  /** Makes what is recorded the active state, in order where queues allow it. */
  commitRecorded(): number {
    return this.#repeated(() => this.#commit(this.recordedState(), {}, this.#tables.word()));
  }

  /** Lets `action` plan from the steering as it is, and commit that; again where the kernel was faster. */
  planned<T>(
    action: (steering: SteeringState, commit: (state: SteeringState, also: Partial<DeviceRecord>) => number) => T,
  ): T {
    return this.#repeated(() => {
      const expected = this.#tables.word();
      return action(this.steering(), (state, also) => this.#commit(state, also, expected));
    });
  }

  #commit(state: SteeringState, also: Partial<DeviceRecord>, expected: SteeringWord): number {
    const { model, record } = this.#state;
    const lostAzs = setOf(model, also.failedAzs ?? record.failedAzs);
    const prepared = this.prepare(state, { lostAzs, expected });
    this.#state.save({ ...also, tableGeneration: prepared.generation, replacedWord: expected });
    return prepared.activate();
  }

  /**
   * Makes the table active that a process had recorded, and so may have acknowledged, when it was killed before the
   * switch. Gives whether there was one.
   */
  finishInterrupted(): boolean {
    const { tableGeneration } = this.#state.record;
    if (tableGeneration === undefined || !this.#tables.isPrepared(tableGeneration)) return false;
    this.#retried(() => this.#finish(tableGeneration));
    return true;
  }

  /** An AZ that is out of use now, and was when the change was planned, is what the change takes into use again. */
  #finish(generation: number): void {
    const { model, record, config } = this.#state;
    const word = this.#tables.word();
    const planned = record.replacedWord ?? word;
    const recorded = setOf(model, record.failedAzs);
    if (planned.table === word.table && planned.lostAzs === word.lostAzs) {
      const settleMs = config.failover.moveDeadlineMs;
      this.#tables.activate(generation, { expected: word, lostAzs: recorded, settleMs });
      return;
    }
    this.#adopt(this.#losses.list(word.lostAzs & ~planned.lostAzs & ~recorded));
    this.#commit(this.recordedState(), {}, word);
  }

  /** Writes the table of a state and its standbys. */
  prepare(
    state: SteeringState,
    { lostAzs, expected }: { lostAzs: number; expected: SteeringWord },
    failover = this.#state.config.failover,
  ): PreparedTable {
    const generation = writeTables(this.#tables, state, failover);
    const activation = { lostAzs, expected, settleMs: failover.moveDeadlineMs };
    return { generation, activate: () => Number(this.#tables.activate(generation, activation).commitNs) };
  }

  /** Computes and loads the standby tables for the next loss. */
  refreshStandbys(): void {
    this.#tables.useBank(writeStandbys(this.#tables, this.steering(), this.#state.config.failover));
  }

  #settleMs(): number {
    const { policy, moveDeadlineMs } = this.#state.config.failover;
    return policy === 'absorb' ? moveDeadlineMs : 0;
  }

  /** Takes over what the kernel did, then acts on that; again if the kernel acts meanwhile. */
  #repeated<T>(action: () => T): T {
    return this.#retried(() => {
      this.adoptLosses();
      return action();
    });
  }

  #retried<T>(action: () => T): T {
    for (let tries = 1; ; tries++) {
      try {
        return action();
      } catch (error) {
        if (!(error instanceof SteeringMoved) || tries === TRIES) throw error;
      }
    }
  }

  // --- what the kernel does by itself --------------------------------------------

  /** Tells the kernel's watch what to look at. @param earlier the AZs that it was told of before */
  configureWatch(earlier: readonly AzConfig[] = []): void {
    writeBfdSessions(this.#dataplane, this.#state.config.azs);
    configureWatch(this.#dataplane, this.#state.config, earlier);
  }

  /** Whether there is something to adopt; costs one load. */
  hasUnrecordedLosses(): boolean {
    return this.#losses.unrecorded() !== 0;
  }

  /** Losses that were taken over since the last call, by whatever came first. */
  takeAdopted(): AdoptedLoss[] {
    return this.#adopted.splice(0);
  }

  /**
   * Takes over what the kernel took out of use, and prepares for the next loss. What cannot be recorded now is lost all
   * the same: the next call throws why, until it is recorded.
   */
  adoptLosses(): void {
    this.#state.retrySave();
    this.#adopt(this.#losses.list());
  }

  #adopt(losses: readonly KernelLoss[]): void {
    if (losses.length === 0) return;
    let steering = this.recordedState();
    const adopted = losses.map(({ row, failed, loss }): AdoptedLoss => {
      const before = loss === null ? steering.current : this.#tables.read(loss.tableBefore);
      const change = failAz({ ...steering, current: before }, row, { force: true });
      steering = change.state;
      return { az: failed.name, plan: change.plan, commitNs: null, failed, silentMs: loss?.silentMs ?? null };
    });
    const change: Partial<DeviceRecord> = {
      failedAzs: [...this.#state.record.failedAzs, ...losses.map(({ failed }) => failed)],
      tableGeneration: this.#tables.active() ?? undefined,
      replacedWord: undefined,
    };
    this.#state.note(change);
    for (const loss of adopted) this.#counted(loss, loss.failed.cause);
    this.#adopted.push(...adopted);
    this.refreshStandbys();
  }
}

/** Writes the table of a state, and those that stand by for the next loss. Gives the generation of the first. */
export function writeTables(tables: TableStore, state: SteeringState, failover: FailoverConfig): number {
  const bank = writeStandbys(tables, state, failover);
  return tables.prepare(state.current, { bank, settleMs: failover.moveDeadlineMs });
}

/** Gives the bank that they are in. */
function writeStandbys(
  tables: TableStore,
  state: SteeringState,
  { panicShare, moveDeadlineMs }: FailoverConfig,
): number {
  const { standbys } = standbyTables(state, { panicShare }, { pairs: true });
  return tables.prepareStandbys(standbys, moveDeadlineMs);
}

function namesOf(failedAzs: readonly FailedAz[]): string[] {
  return failedAzs.map(({ name }) => name);
}
