// SPDX-License-Identifier: Apache-2.0
/**
 * Everything that can be asked of the product, as functions over plain data. The command line calls it; whoever changes
 * something holds the lock for the whole operation, so two commands never interleave.
 */
import { randomInt } from 'node:crypto';
import { release } from 'node:os';
import path from 'node:path';
import { validateAzs } from '../config/azs.ts';
import { type DeviceConfig, formatDevice, parseDevice } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import { clsactEgressProgram, detachClsactEgress } from '../loader/clsact.ts';
import type { Native } from '../loader/ffi/index.ts';
import { linkInfo } from '../loader/link.ts';
import { FileLock } from '../loader/lock.ts';
import { inNetns } from '../loader/netns.ts';
import { type DeviceId, deviceText, PinFolder, pinnedDevices } from '../loader/pins.ts';
import { type DeviceFacts, diagnose, type Finding, gatherFacts, refuseIfBlocked } from '../loader/preflight/index.ts';
import { rxQueuesOf } from '../loader/preflight/rules/queues.ts';
import { VnicLimits } from '../maps/generated/abi.ts';
import { validateRules } from '../steering/rules/validate.ts';
import { type AttachAction, LINK_EGRESS, LINK_XDP, performAttach, planAttach } from './attach.ts';
import { AttachedDevice } from './attached-device.ts';
import { Dataplane } from './dataplane.ts';
import { DeviceModel } from './device-model.ts';
import { deviceShape, onlineCpus } from './machine.ts';
import { type DataplaneSettings, type DeviceRecord, type EgressHook, RECORD_VERSION, RecordStore } from './record.ts';
import { TableStore } from './table-store.ts';

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
}

export interface AttachRequest {
  /** Absent: what is recorded of the device (it was attached before a reboot), else nothing but defaults. */
  config?: DeviceConfig;
  /** Overrides the configuration's num_queues. */
  queues?: number;
  mode: 'native' | 'generic';
  egress?: EgressHook;
  maxFlows?: number;
  maxRules?: number;
  deliverMetadata?: boolean;
  dryRun?: boolean;
}

export interface AttachResult {
  device: string;
  mode: 'native' | 'generic';
  egress: EgressHook;
  queues: number;
  azs: number;
  rules: number;
  /** Where AZs and rules come from. */
  source: 'config' | 'record' | 'defaults';
  actions: AttachAction[];
  /** What preflight found; none of them blocks. */
  findings: Finding[];
  performed: boolean;
}

export const attachDefaults = { maxFlows: 131_072, maxRules: 131_072, cpuQueueSize: 16_384 } as const;

const LOCK_TIMEOUT_MS = 10_000;
const RUN_FOLDER = '/run/vnic';

export class Controller {
  readonly native: Native;
  readonly records: RecordStore;
  readonly #lockFile: string;
  readonly #lockTimeoutMs: number;
  /** Devices with leftovers that could not be cleared away, and why. */
  readonly #unsettled = new Map<string, unknown>();

  constructor(options: ControllerOptions) {
    this.native = options.native;
    this.records = new RecordStore(options.stateFolder);
    this.#lockFile = path.join(options.runFolder ?? RUN_FOLDER, 'vnicctl.lock');
    this.#lockTimeoutMs = options.lockTimeoutMs ?? LOCK_TIMEOUT_MS;
  }

  /** Holds the lock while `action` runs, after clearing away what a killed command left. */
  locked<T>(action: () => T): T {
    using _lock = FileLock.acquire(this.native, this.#lockFile, this.#lockTimeoutMs);
    this.#unsettled.clear();
    for (const device of pinnedDevices()) {
      try {
        this.#settle(device);
      } catch (error) {
        // One device that cannot be cleared up must not be in the way of the others.
        this.#unsettled.set(deviceText(device), error);
      }
    }
    return action();
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
      if (this.isAttached(device)) {
        throw new VnicError('conflict', `${deviceText(device)} is attached already.`, {
          remedy: `See vnicctl status ${asArguments(device)}; to change how it is attached, detach first.`,
        });
      }
      const earlier = request.config === undefined ? this.records.read(device) : null;
      const given = request.config ?? parseDevice(device.name, earlier?.spec ?? {});
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
      const record = this.#newRecord(device, request, model, { mac: shape.mac, failedAzs: earlier?.failedAzs ?? [] });
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
    from: Pick<DeviceRecord, 'mac' | 'failedAzs'>,
  ): DeviceRecord {
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
      failedAzs: from.failedAzs,
      ruleGeneration: 0,
      clsactMade: false,
    };
  }

  /** Detaches and puts back what attach changed. `force` also removes pins that this version cannot read. */
  detach(device: DeviceId, force = false): void {
    this.locked(() => {
      if (!this.isAttached(device)) throw notAttached(device);
      if (!force) {
        this.#requireSettled(device);
        using _dataplane = Dataplane.open(this.native, this.pins(device));
      }
      this.#takeOff(device);
      this.records.remove(device);
    });
  }

  /** Names of the pins that detach would remove. Throws `not_found`. */
  describeDetach(device: DeviceId): string[] {
    if (!this.isAttached(device)) throw notAttached(device);
    return this.pins(device).names();
  }

  /** Links first: no packet meets a dataplane that is half gone. */
  #takeOff(device: DeviceId): void {
    const pins = this.pins(device);
    const ifindex = this.#attachedIfindex(device);
    pins.unpin(LINK_XDP);
    pins.unpin(LINK_EGRESS);
    if (ifindex !== null) this.#takeOffClsact(device, ifindex);
    pins.remove();
    this.records.dropStaged(device);
  }

  #takeOffClsact(device: DeviceId, ifindex: number): void {
    const record = this.records.readStaged(device) ?? this.#readRecordQuietly(device);
    if (record !== null && record.settings.egress !== 'clsact') return;
    const clsactMade = record?.clsactMade ?? false;
    ifThere(() =>
      inNetns(this.native, device.netns, () => {
        if (clsactMade || clsactEgressProgram(this.native, ifindex) !== null) {
          detachClsactEgress(this.native, ifindex, clsactMade);
        }
      }),
    );
  }

  /** By its link, or by its name for an attach that was killed before there was one. Null: the device is gone. */
  #attachedIfindex(device: DeviceId): number | null {
    const pins = this.pins(device);
    if (pins.exists(LINK_XDP)) {
      using link = pins.open(LINK_XDP);
      const { ifindex } = linkInfo(this.native, link);
      return ifindex === 0 ? null : ifindex;
    }
    return ifThere(() => inNetns(this.native, device.netns, () => deviceShape(device.name).ifindex));
  }

  #readRecordQuietly(device: DeviceId): DeviceRecord | null {
    try {
      return this.records.read(device);
    } catch (error) {
      if (error instanceof VnicError && error.code === 'state_damaged') return null;
      throw error;
    }
  }

  /**
   * Finishes or clears away what a killed attach or detach left. Pins without a link or without an active table: it was
   * not done. A staged record beside an active table: it was, but for the last rename.
   */
  #settle(device: DeviceId): void {
    const pins = this.pins(device);
    // A device that is gone took its attachment along; the record stays, for when it comes back.
    if (pins.exists(LINK_XDP) && this.#attachedIfindex(device) !== null) {
      try {
        using dataplane = Dataplane.open(this.native, pins);
        if (new TableStore(dataplane).active() !== null) {
          this.records.promote(device);
          return;
        }
      } catch (error) {
        // Another version's pins are not ours to remove: detach --force does that when asked.
        if (error instanceof VnicError && error.code === 'abi_mismatch') return;
        if (!(error instanceof VnicError && error.code === 'not_found')) throw error;
      }
    }
    this.#takeOff(device);
  }

  /** Throws what kept the device's leftovers from being cleared away. */
  #requireSettled(device: DeviceId): void {
    if (this.#unsettled.has(deviceText(device))) throw this.#unsettled.get(deviceText(device));
  }

  /** Opens an attached device for one operation. Throws `not_found`, `abi_mismatch`, `state_damaged`. */
  open(device: DeviceId): AttachedDevice {
    this.#requireSettled(device);
    if (!this.isAttached(device)) throw notAttached(device);
    const record = this.records.read(device);
    if (record === null) {
      throw new VnicError('state_damaged', `${deviceText(device)} is attached, but its record is missing.`, {
        remedy: `Detach it with: vnicctl detach ${asArguments(device)} --force; then attach it again.`,
      });
    }
    const config = parseDevice(device.name, record.spec);
    const dataplane = Dataplane.open(this.native, this.pins(device));
    const model = DeviceModel.of(config, record.settings.queueCpus);
    return new AttachedDevice({ dataplane, record, config, model, records: this.records, pins: this.pins(device) });
  }

  /** Opens, runs, closes, under the lock. */
  withDevice<T>(device: DeviceId, action: (device: AttachedDevice) => T): T {
    return this.locked(() => {
      using attached = this.open(device);
      return action(attached);
    });
  }
}

/** A device as vnicctl's command line names it. */
function asArguments({ name, netns }: DeviceId): string {
  return netns === null ? name : `${name} --netns ${netns}`;
}

/** Null where the device or its namespace is gone. */
function ifThere<T>(action: () => T): T | null {
  try {
    return action();
  } catch (error) {
    if (error instanceof VnicError && error.code === 'not_found') return null;
    throw error;
  }
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
