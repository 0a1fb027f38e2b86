// SPDX-License-Identifier: Apache-2.0
/**
 * Everything that can be asked of the product, as functions over plain data. The command line calls it; whoever changes
 * something holds the lock for the whole operation, so two commands never interleave.
 */
import { randomInt } from 'node:crypto';
import { release } from 'node:os';
import path from 'node:path';
import { validateAzs } from '../config/azs.ts';
import { formatDevice, parseDevice } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import { type Link, linksIn } from '../loader/device-watch.ts';
import type { Native } from '../loader/ffi/index.ts';
import { FileLock } from '../loader/lock.ts';
import { inNetns } from '../loader/netns.ts';
import { type DeviceId, deviceText, PinFolder, pinnedDevices } from '../loader/pins.ts';
import { type DeviceFacts, diagnose, type Finding, gatherFacts, refuseIfBlocked } from '../loader/preflight/index.ts';
import { rxQueuesOf } from '../loader/preflight/rules/queues.ts';
import { VnicLimits } from '../maps/generated/abi.ts';
import { validateRules } from '../steering/rules/validate.ts';
import type { DeviceSample } from '../telemetry/metrics/sample.ts';
import { LINK_XDP, performAttach, planAttach } from './attach.ts';
import { type AttachRequest, type AttachResult, attachDefaults, requestOf } from './attach-request.ts';
import { AttachedDevice } from './attached-device.ts';
import { Dataplane } from './dataplane.ts';
import { DeviceModel } from './device-model.ts';
import type { Drift } from './drift.ts';
import { Leftovers } from './leftovers.ts';
import { deviceShape, onlineCpus } from './machine.ts';
import { MachineTelemetry } from './machine-telemetry.ts';
import { OpenDevices } from './open-devices.ts';
import {
  type DamageReport,
  type DataplaneSettings,
  type DeviceRecord,
  RECORD_VERSION,
  type RecordDraft,
  RecordStore,
  recordConfig,
} from './record.ts';
import { Settlement } from './settlement.ts';
import { objectSha256, type UpgradeReport, upgradeDataplane } from './upgrade.ts';

export interface ControllerOptions {
  native: Native;
  /** Records live here. */
  stateFolder: string;
  /**
   * The lock lives here; default /run/vnic. It guards the pins, which are the machine's: everybody who uses the same
   * bpffs must use the same lock.
   */
  runFolder?: string;
  lockTimeoutMs?: number;
  /** Holds devices open between operations: for a process that lives long and is alone on its state. */
  keepOpen?: boolean;
  /** Told of every state file that could not be read. */
  onDamage?: (report: DamageReport) => void;
}

const LOCK_TIMEOUT_MS = 10_000;
const RUN_FOLDER = '/run/vnic';

export class Controller {
  readonly native: Native;
  readonly records: RecordStore;
  readonly telemetry: MachineTelemetry;
  readonly #lockFile: string;
  readonly #lockTimeoutMs: number;
  readonly #leftovers: Leftovers;
  readonly #open: OpenDevices | null;
  #hasLock = false;
  readonly #settlement: Settlement;

  constructor(options: ControllerOptions) {
    this.native = options.native;
    this.records = new RecordStore(options.stateFolder, options.onDamage);
    this.telemetry = new MachineTelemetry(options.native);
    this.#leftovers = new Leftovers(options.native, this.records);
    this.#open = options.keepOpen === true ? new OpenDevices() : null;
    const { native } = options;
    const parts = { native, records: this.records, leftovers: this.#leftovers, open: this.#open };
    this.#settlement = new Settlement(parts);
    this.#lockFile = path.join(options.runFolder ?? RUN_FOLDER, 'vnicctl.lock');
    this.#lockTimeoutMs = options.lockTimeoutMs ?? LOCK_TIMEOUT_MS;
  }

  /** Holds the lock while `action` runs, after clearing away what a killed command left. */
  locked<T>(action: () => T): T {
    if (this.#hasLock) return action();
    using _lock = FileLock.acquire(this.native, this.#lockFile, this.#lockTimeoutMs);
    this.#settlement.settleAll();
    this.#hasLock = true;
    try {
      return action();
    } finally {
      this.#hasLock = false;
    }
  }

  pins(device: DeviceId): PinFolder {
    return new PinFolder(this.native, device);
  }

  /** Attached devices, by name. */
  devices(): DeviceId[] {
    return pinnedDevices();
  }

  isAttached(device: DeviceId): boolean {
    return this.pins(device).exists(LINK_XDP);
  }

  /** What would block or degrade attaching. Changes nothing. Throws `not_found` for an unknown namespace. */
  doctor(device: DeviceId, options: { mode: 'native' | 'generic'; queues?: number }): Finding[] {
    return diagnose(this.#facts(device), options);
  }

  #facts(device: DeviceId): DeviceFacts {
    const pinFolder = this.pins(device).path;
    return inNetns(this.native, device.netns, () => gatherFacts(this.native, device.name, { pinFolder }));
  }

  /**
   * Attaches, or says what attaching would do. Throws `conflict` when the device is attached already, and what
   * preflight refuses, before anything is touched.
   */
  attach(device: DeviceId, request: AttachRequest): AttachResult {
    return this.locked(() => {
      this.#requireSettled(device);
      this.#settlement.settleForeign(device);
      if (this.isAttached(device)) {
        throw new VnicError('conflict', `${deviceText(device)} is attached already.`, {
          remedy: `See vnicctl status ${asArguments(device)}; to change how it is attached, detach first.`,
        });
      }
      const earlier = request.config === undefined ? (request.earlier ?? this.records.read(device)) : null;
      const given = request.config ?? (earlier === null ? parseDevice(device.name, {}) : recordConfig(earlier));
      const config = request.queues === undefined ? given : { ...given, numQueues: request.queues };
      const asked = config.numQueues;
      const facts = this.#facts(device);
      const findings = diagnose(facts, { mode: request.mode, ...(asked === undefined ? {} : { queues: asked }) });
      refuseIfBlocked(findings);
      const shape = inNetns(this.native, device.netns, () => deviceShape(device.name));
      const inUse = facts.link === null ? shape.rxQueues : rxQueuesOf(facts.link);
      const queueCount = asked ?? Math.min(inUse, VnicLimits.maxQueues);
      validateAzs(config.azs, queueCount);
      validateRules(config.rules, { queues: queueCount, maxRules: request.maxRules ?? attachDefaults.maxRules });
      const model = DeviceModel.plan(config, queueCount, onlineCpus());
      const record = this.#newRecord(device, request, model, { mac: shape.mac, earlier });
      const pins = this.pins(device);
      const actions = planAttach({ record, model, ifindex: shape.ifindex }, pins.path);
      if (request.dryRun !== true) {
        const ports = { native: this.native, pins, records: this.records };
        performAttach({ record, model, ifindex: shape.ifindex }, actions, ports).close();
      }
      return {
        device: deviceText(device),
        mode: request.mode,
        egress: record.settings.egress,
        queues: queueCount,
        azs: config.azs.length,
        rules: config.rules.length,
        source: request.config !== undefined ? 'config' : earlier === null ? 'defaults' : 'record',
        actions,
        findings,
        performed: request.dryRun !== true,
      };
    });
  }

  #newRecord(
    device: DeviceId,
    request: AttachRequest,
    model: DeviceModel,
    from: { mac: string; earlier: DeviceRecord | null },
  ): RecordDraft {
    const queueCpus = model.topology.queues.map((queue) => queue.cpu);
    const settings: DataplaneSettings = {
      mode: request.mode,
      egress: request.egress ?? (hasTcx(release()) ? 'tcx' : 'clsact'),
      queues: queueCpus.length,
      queueCpus,
      maxFlows: request.maxFlows ?? attachDefaults.maxFlows,
      maxRules: request.maxRules ?? attachDefaults.maxRules,
      hashSeed: randomInt(2 ** 32),
      deliverMetadata: request.deliverMetadata ?? false,
      cpuQueueSize: attachDefaults.cpuQueueSize,
    };
    return {
      version: RECORD_VERSION,
      device,
      mac: from.mac,
      settings,
      spec: formatDevice(model.config),
      failedAzs: from.earlier?.failedAzs ?? [],
      homeMoves: from.earlier?.homeMoves,
      lastRebalance: from.earlier?.lastRebalance,
      ruleGeneration: 0,
      configSha256: request.configSha256 ?? request.earlier?.configSha256 ?? null,
      objectSha256: objectSha256(),
      clsactMade: false,
    };
  }

  /** Detaches and puts back what attach changed. `force` also removes pins that this version cannot read. */
  detach(device: DeviceId, force = false): void {
    this.locked(() => {
      if (!this.isAttached(device)) throw notAttached(device);
      this.#open?.drop(device);
      if (!force) {
        this.#requireSettled(device);
        using _dataplane = Dataplane.open(this.native, this.pins(device));
      }
      this.#leftovers.takeOff(device);
      this.records.remove(device);
    });
  }

  /** Names of the pins that detach would remove. Throws `not_found`. */
  describeDetach(device: DeviceId): string[] {
    if (!this.isAttached(device)) throw notAttached(device);
    return this.pins(device).names();
  }

  /** Throws what kept the device's leftovers from being cleared away. */
  #requireSettled(device: DeviceId): void {
    const failure = this.#settlement.failureOf(device);
    if (failure !== undefined) throw failure;
  }

  /** Opens an attached device for one operation. Throws `not_found`, `abi_mismatch`, `state_damaged`. */
  open(device: DeviceId): AttachedDevice {
    this.#requireSettled(device);
    if (!this.isAttached(device)) throw notAttached(device);
    const record = this.records.read(device);
    if (record === null) throw this.#recordMissing(device);
    const config = recordConfig(record);
    const dataplane = Dataplane.open(this.native, this.pins(device));
    const model = DeviceModel.of(config, record.settings.queueCpus);
    return new AttachedDevice({
      dataplane,
      record,
      config,
      model,
      records: this.records,
      pins: this.pins(device),
      telemetry: this.telemetry,
    });
  }

  #recordMissing(device: DeviceId): VnicError {
    return new VnicError('state_damaged', `${deviceText(device)} is attached, but its record is missing.`, {
      remedy: `Detach it with: vnicctl detach ${asArguments(device)} --force; then attach it again.`,
      details: { keptAside: this.records.damaged(device) },
    });
  }

  /** Runs `action` on the open device, under the lock. */
  withDevice<T>(device: DeviceId, action: (device: AttachedDevice) => T): T {
    return this.locked(() => {
      if (this.#open === null) {
        using attached = this.open(device);
        return action(attached);
      }
      try {
        return action(this.#openKept(this.#open, device));
      } catch (error) {
        // What is in memory may not be what is on disk and in the kernel.
        if (!(error instanceof VnicError) || interrupting.has(error.code)) this.#open.drop(device);
        throw error;
      }
    });
  }

  /**
   * Runs `action`, which only reads, on the device. A process that holds it open need not wait for the lock: a command that
   * attaches another device has it for a second.
   */
  readDevice<T>(device: DeviceId, action: (device: AttachedDevice) => T): T {
    const known = this.#open?.get(this.pins(device)) ?? null;
    return known === null ? this.withDevice(device, action) : action(known);
  }

  #openKept(open: OpenDevices, device: DeviceId): AttachedDevice {
    const pins = this.pins(device);
    const known = open.get(pins);
    if (known !== null) return known;
    const opened = this.open(device);
    // The first switch may be that of a zone that is dying.
    opened.tables.rehearse();
    opened.beginMeasuring();
    open.put(pins, opened);
    return opened;
  }

  /** Attached and recorded devices, by name. */
  summaries(): DeviceSummary[] {
    // A process that lives long clears up after others every now and then; a command does it now.
    return this.#open === null ? this.locked(() => this.#summaries()) : this.#summaries();
  }

  #summaries(): DeviceSummary[] {
    const recorded = new Map(this.records.devices().map((device) => [deviceText(device), device]));
    const known = new Map([...this.devices().map((device) => [deviceText(device), device] as const), ...recorded]);
    return [...known]
      .map(([text, device]): DeviceSummary => {
        const error = this.#settlement.failureOf(device);
        if (error !== undefined) return { device, state: 'failed', error: asFailure(error) };
        if (!this.isPresent(device)) return { device, state: 'gone', error: null };
        if (!recorded.has(text)) return { device, state: 'failed', error: this.#recordMissing(device) };
        return { device, state: 'attached', error: null };
      })
      .sort((a, b) => deviceText(a.device).localeCompare(deviceText(b.device)));
  }

  /** What the metrics say of every device that is there. One that cannot be read is left out: its status says why. */
  samples(): DeviceSample[] {
    return this.records.devices().flatMap((device) => {
      try {
        return this.isPresent(device) ? [this.readDevice(device, (attached) => attached.sample())] : [];
      } catch (error) {
        if (error instanceof VnicError) return [];
        throw error;
      }
    });
  }

  /** Whether the device is attached and there. */
  isPresent(device: DeviceId): boolean {
    return this.isAttached(device) && this.#leftovers.attachedIfindex(device) !== null;
  }

  /** Whether the named device exists, attached or not. */
  exists(device: DeviceId): boolean {
    return this.links(device.netns).has(device.name);
  }

  /** Network devices of a namespace; none where the namespace is gone. */
  links(netns: string | null): ReadonlyMap<string, Link> {
    try {
      return linksIn(this.native, netns);
    } catch (error) {
      if (error instanceof VnicError && error.code === 'not_found') return new Map();
      throw error;
    }
  }

  /** Brings the kernel to what is recorded, where it drifted. Throws `not_found` for a device without a record. */
  mend(device: DeviceId, dryRun = false): { drift: Drift[]; actions: string[] } {
    if (this.isPresent(device)) {
      const { drift, actions } = this.withDevice(device, (attached) => {
        const found = attached.drift();
        return { drift: found, actions: attached.mend(found, !dryRun) };
      });
      const renamed = drift.find(({ what }) => what === 'device name')?.kernel;
      const isHere = renamed !== undefined && this.links(device.netns).has(renamed);
      if (!isHere && !drift.some(({ what }) => what === 'egress link')) return { drift, actions };
      const name = isHere ? renamed : device.name;
      if (!dryRun) this.#attachAgain(device, { ...device, name });
      return { drift, actions: [...actions, `attach the device again, as ${name}, with all its programs`] };
    }
    if (this.records.peek(device) === null) throw notAttached(device);
    const drift: Drift[] = [{ what: 'XDP link', spec: 'attached', kernel: 'missing' }];
    if (!dryRun) this.#attachAgain(device);
    return { drift, actions: ['attach the device as it is recorded'] };
  }

  /** As it was attached before. Takes off what is left of that first. */
  #attachAgain(device: DeviceId, as = device): void {
    this.locked(() => {
      const record = this.records.read(device);
      if (record === null) throw notAttached(device);
      if (this.isAttached(device)) {
        this.#open?.drop(device);
        this.#leftovers.takeOff(device);
      }
      this.attach(as, requestOf(record));
      if (as.name !== device.name) this.records.remove(device);
    });
  }

  /** Brings the device to the programs of the object file that this version has, under traffic. */
  upgrade(device: DeviceId): UpgradeReport {
    return this.locked(() => {
      const pins = this.pins(device);
      const record = this.records.peek(device);
      if (record === null || !this.isAttached(device)) throw notAttached(device);
      this.#open?.drop(device);
      const report = upgradeDataplane({ native: this.native, pins, settings: record.settings });
      using attached = this.open(device);
      attached.noteUpgrade(report.objectSha256);
      return report;
    });
  }

  /** Devices that this process holds open. */
  heldOpen(): AttachedDevice[] {
    return this.#open?.all() ?? [];
  }

  /** Closes a device that is gone. Its record stays. */
  forget(device: DeviceId): void {
    this.#open?.drop(device);
  }

  /** Lets go of everything that is held open; what is attached stays. */
  close(): void {
    this.#open?.close();
    this.telemetry.close();
  }
}

export interface DeviceSummary {
  device: DeviceId;
  /** gone: recorded, and attached again when the device comes back. */
  state: 'attached' | 'gone' | 'failed';
  error: VnicError | null;
}

/** Errors after which memory, disk and kernel may differ. */
const interrupting = new Set(['failed', 'kernel_refused', 'state_damaged']);

function asFailure(error: unknown): VnicError {
  return error instanceof VnicError ? error : new VnicError('failed', String(error), { cause: error });
}

/** A device as vnicctl's command line names it. */
function asArguments({ name, netns }: DeviceId): string {
  return netns === null ? name : `${name} --netns ${netns}`;
}

/** tcx came with Linux 6.6. @param kernelRelease as `uname -r` prints it */
export function hasTcx(kernelRelease: string): boolean {
  const [major = 0, minor = 0] = kernelRelease.split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 6);
}

function notAttached(device: DeviceId): VnicError {
  return new VnicError('not_found', `${deviceText(device)} is not attached.`, {
    remedy: `Attach it with: vnicctl attach ${asArguments(device)}`,
  });
}
