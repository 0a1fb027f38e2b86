// SPDX-License-Identifier: Apache-2.0
/**
 * Everything that can be asked of the product, as functions over plain data. The command line calls it; whoever changes
 * something holds the lock for the whole operation, so two commands never interleave.
 */
import { randomInt } from 'node:crypto';
import { release } from 'node:os';
import path from 'node:path';
import { type DeviceConfig, formatDevice, parseDevice } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import { clsactEgressProgram, detachClsactEgress } from '../loader/clsact.ts';
import type { Native } from '../loader/ffi/index.ts';
import { linkInfo } from '../loader/link.ts';
import { FileLock } from '../loader/lock.ts';
import { inNetns } from '../loader/netns.ts';
import { type DeviceId, deviceText, PinFolder, pinnedDevices } from '../loader/pins.ts';
import { type AttachAction, LINK_EGRESS, LINK_XDP, performAttach, planAttach } from './attach.ts';
import { AttachedDevice } from './attached-device.ts';
import { Dataplane } from './dataplane.ts';
import { DeviceModel } from './device-model.ts';
import { deviceShape, onlineCpus } from './machine.ts';
import { type DataplaneSettings, type DeviceRecord, type EgressHook, RECORD_VERSION, RecordStore } from './record.ts';
import { TableStore } from './table-store.ts';

export interface ControllerOptions {
  native: Native;
  /** Records and the lock live here. */
  stateFolder: string;
  runFolder: string;
  lockTimeoutMs?: number;
}

export interface AttachRequest {
  config: DeviceConfig;
  mode: 'native' | 'generic';
  egress?: EgressHook;
  maxFlows?: number;
  maxRules?: number;
  deliverMetadata?: boolean;
  dryRun?: boolean;
}

export interface AttachResult {
  device: string;
  actions: AttachAction[];
  performed: boolean;
}

export const attachDefaults = { maxFlows: 131_072, maxRules: 131_072, cpuQueueSize: 4096 } as const;

const LOCK_TIMEOUT_MS = 10_000;

export class Controller {
  readonly native: Native;
  readonly records: RecordStore;
  readonly #lockFile: string;
  readonly #lockTimeoutMs: number;

  constructor(options: ControllerOptions) {
    this.native = options.native;
    this.records = new RecordStore(options.stateFolder);
    this.#lockFile = path.join(options.runFolder, 'vnicctl.lock');
    this.#lockTimeoutMs = options.lockTimeoutMs ?? LOCK_TIMEOUT_MS;
  }

  /** Holds the lock while `action` runs, after clearing away what a killed command left. */
  locked<T>(action: () => T): T {
    using _lock = FileLock.acquire(this.native, this.#lockFile, this.#lockTimeoutMs);
    for (const device of pinnedDevices()) this.#removeHalfAttached(device);
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

  /** Attaches, or says what attaching would do. Throws `conflict` when the device is attached already. */
  attach(device: DeviceId, request: AttachRequest): AttachResult {
    return this.locked(() => {
      if (this.isAttached(device)) {
        throw new VnicError('conflict', `${deviceText(device)} is attached already.`, {
          remedy: `See vnicctl status ${device.name}; to change how it is attached, detach first.`,
        });
      }
      const shape = inNetns(this.native, device.netns, () => deviceShape(device.name));
      const model = this.#modelFor(request.config, shape.rxQueues);
      const record = this.#newRecord(device, request, model, shape);
      const pins = this.pins(device);
      const actions = planAttach({ record, model, ifindex: shape.ifindex }, pins.path);
      if (request.dryRun === true) return { device: deviceText(device), actions, performed: false };
      const ports = { native: this.native, pins, records: this.records };
      performAttach({ record, model, ifindex: shape.ifindex }, actions, ports).close();
      return { device: deviceText(device), actions, performed: true };
    });
  }

  #modelFor(config: DeviceConfig, rxQueues: number): DeviceModel {
    const queueCount = config.numQueues ?? Math.min(rxQueues, 64);
    if (queueCount > rxQueues) {
      throw new VnicError('preflight_refused', `${config.name} has ${rxQueues} queues, fewer than the ${queueCount} asked for.`, {
        remedy: `Raise them with: ethtool -L ${config.name} combined ${queueCount}, or give --queues ${rxQueues}`,
      });
    }
    return DeviceModel.plan(config, queueCount, onlineCpus());
  }

  #newRecord(
    device: DeviceId,
    request: AttachRequest,
    model: DeviceModel,
    shape: { mac: string },
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
      mac: shape.mac,
      settings,
      spec: formatDevice(request.config),
      failedAzs: [],
      ruleGeneration: 0,
      clsactMade: false,
    };
  }

  /** Detaches and puts back what attach changed. `force` also removes pins that this version cannot read. */
  detach(device: DeviceId, force = false): void {
    this.locked(() => {
      if (!this.isAttached(device)) throw notAttached(device);
      if (!force) {
        using _dataplane = Dataplane.open(this.native, this.pins(device));
      }
      this.#takeOff(device);
      this.records.remove(device);
    });
  }

  /** Links first: no packet meets a dataplane that is half gone. */
  #takeOff(device: DeviceId): void {
    const pins = this.pins(device);
    const ifindex = this.#attachedIfindex(device);
    pins.unpin(LINK_XDP);
    pins.unpin(LINK_EGRESS);
    const record = this.#readRecordQuietly(device);
    if (ifindex !== null && ifindex !== 0) {
      inNetns(this.native, device.netns, () => {
        if (clsactEgressProgram(this.native, ifindex) !== null) {
          detachClsactEgress(this.native, ifindex, record?.clsactMade ?? false);
        }
      });
    }
    pins.remove();
  }

  #attachedIfindex(device: DeviceId): number | null {
    const pins = this.pins(device);
    if (!pins.exists(LINK_XDP)) return null;
    using link = pins.open(LINK_XDP);
    return linkInfo(this.native, link).ifindex;
  }

  #readRecordQuietly(device: DeviceId): DeviceRecord | null {
    try {
      return this.records.read(device);
    } catch (error) {
      if (error instanceof VnicError && error.code === 'state_damaged') return null;
      throw error;
    }
  }

  /** What a killed attach or detach left: pins without a link, or without an active table. */
  #removeHalfAttached(device: DeviceId): void {
    const pins = this.pins(device);
    if (pins.exists(LINK_XDP)) {
      try {
        using dataplane = Dataplane.open(this.native, pins);
        if (new TableStore(dataplane).active() !== null || this.#steeringStopped(device)) return;
      } catch (error) {
        // Another version's pins are not ours to remove: detach --force does that when asked.
        if (error instanceof VnicError && error.code === 'abi_mismatch') return;
        if (!(error instanceof VnicError && error.code === 'not_found')) throw error;
      }
    }
    this.#takeOff(device);
    this.records.remove(device);
  }

  /** No table is active because no queue is usable: that is a state, not a half-done attach. */
  #steeringStopped(device: DeviceId): boolean {
    const record = this.#readRecordQuietly(device);
    return record !== null && record.failedAzs.length > 0;
  }

  /** Opens an attached device for one operation. Throws `not_found`, `abi_mismatch`, `state_damaged`. */
  open(device: DeviceId): AttachedDevice {
    if (!this.isAttached(device)) throw notAttached(device);
    const record = this.records.read(device);
    if (record === null) {
      throw new VnicError('state_damaged', `${deviceText(device)} is attached, but its record is missing.`, {
        remedy: `Detach it with: vnicctl detach ${device.name} --force, and attach it again.`,
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

/** tcx came with Linux 6.6. @param kernelRelease as `uname -r` prints it */
export function hasTcx(kernelRelease: string): boolean {
  const [major = 0, minor = 0] = kernelRelease.split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 6);
}

function notAttached(device: DeviceId): VnicError {
  return new VnicError('not_found', `${deviceText(device)} is not attached.`, {
    remedy: `Attach it with: vnicctl attach ${device.name}`,
  });
}
