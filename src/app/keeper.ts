// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps devices as they were asked for while a daemon runs: adopts what is pinned, attaches what is recorded, follows a
 * device that goes and comes back, and applies the configuration file.
 */
import { createHash } from 'node:crypto';
import type { Config } from '../config/config.ts';
import { type DeviceConfig, formatDevice } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import { type DeviceId, deviceText } from '../loader/pins.ts';
import { requestOf } from './attach-request.ts';
import type { Controller } from './controller.ts';
import { type Drift, driftText } from './drift.ts';
import { type KnownDevice, matchDevices } from './reattach.ts';
import type { DeviceRecord } from './record.ts';
import { objectSha256 } from './upgrade.ts';

/** Something to tell whoever follows the events. */
export type Publish = (event: { type: string; device: string | null; data: Record<string, unknown> }) => void;

/** Names a section of the configuration file by what it says, not by how it is written. */
export function configSha256(config: DeviceConfig): string {
  return createHash('sha256')
    .update(JSON.stringify(formatDevice(config)))
    .digest('hex');
}

export class Keeper {
  readonly #controller: Controller;
  readonly #publish: Publish;
  /** Devices that were there at the last look. */
  readonly #present = new Set<string>();
  /** Recorded devices that are yet to be adopted. */
  readonly #unadopted = new Map<string, DeviceId>();
  /** What was last told of each device, so that it is told once. */
  readonly #told = new Map<string, string>();

  constructor(controller: Controller, publish: Publish) {
    this.#controller = controller;
    this.#publish = publish;
  }

  /** Adopts, upgrades and attaches whatever is recorded; then applies the configuration. Trouble with one device is told. */
  start(config: Config | null): void {
    for (const device of this.#controller.records.devices()) this.#unadopted.set(deviceText(device), device);
    this.#attempt(null, 'look at devices', () => {
      this.#adoptRest(this.#recorded());
      this.#reattach();
    });
    if (config !== null) this.applyConfig(config);
  }

  /** Clears away leftovers besides, so that a device that came back can be attached. */
  #recorded(): DeviceId[] {
    return this.#controller.locked(() => this.#controller.records.devices());
  }

  /** What keeps a device from being adopted, such as a lock that somebody else has for long, may end. */
  #adoptRest(recorded: readonly DeviceId[]): void {
    const known = new Set(recorded.map(deviceText));
    for (const [text, device] of this.#unadopted) {
      const done = known.has(text) ? this.#attempt(device, 'adopt', () => this.#adopt(device)) : true;
      if (done !== null) this.#unadopted.delete(text);
    }
  }

  /** Gives whether it is there. */
  #adopt(device: DeviceId): boolean {
    const controller = this.#controller;
    if (!controller.isPresent(device)) return false;
    const upgraded = controller.withDevice(device, ({ record }) => record.objectSha256 !== objectSha256())
      ? controller.upgrade(device)
      : null;
    const drift = controller.withDevice(device, (attached) => {
      const finished = attached.finishInterrupted();
      if (finished.length > 0) this.#tell('device.finished', device, { actions: finished });
      return attached.drift();
    });
    this.#present.add(deviceText(device));
    this.#tell('device.adopted', device, { drift: drift.map(driftText) });
    if (upgraded !== null) this.#tell('device.upgraded', device, { ...upgraded });
    this.#tellDrift(device, drift);
    return true;
  }

  /** One look at every device: who is gone, who is back, what drifted. Never throws. */
  look(): void {
    this.#attempt(null, 'look at devices', () => this.#look());
  }

  #look(): void {
    const recorded = this.#recorded();
    this.#adoptRest(recorded);
    for (const device of recorded) {
      const text = deviceText(device);
      const isPresent = this.#controller.isPresent(device);
      if (!isPresent) {
        this.#controller.forget(device);
        if (this.#present.delete(text)) this.#tell('device.gone', device, {});
      }
      if (isPresent) {
        this.#present.add(text);
        this.#attempt(device, 'look at', () =>
          this.#tellDrift(
            device,
            this.#controller.withDevice(device, (attached) => attached.drift()),
          ),
        );
      }
    }
    this.#reattach();
  }

  /** Attaches recorded devices that are there and not attached, under the name they have now. */
  #reattach(): void {
    const controller = this.#controller;
    const missing = new Map<string | null, KnownDevice[]>();
    for (const device of this.#recorded()) {
      if (controller.isPresent(device)) continue;
      const known = this.#attempt(device, 'read', () => controller.locked(() => controller.records.peek(device)));
      if (known !== null) missing.set(device.netns, [...(missing.get(device.netns) ?? []), known]);
    }
    for (const [netns, records] of missing) {
      const taken = controller.devices().filter((device) => device.netns === netns && controller.isPresent(device));
      const links = controller.links(netns);
      const matches = matchDevices(records, links, new Set(taken.map(({ name }) => name)));
      // All of them are read first: attaching one may write under the name that another one's record has.
      const returned = matches.map(({ record: { device }, name }) => ({
        record: this.#attempt(device, 'read', () => controller.locked(() => controller.records.read(device))),
        device: { name, netns },
      }));
      const names = new Set(matches.map(({ name }) => name));
      for (const { record, device } of returned) if (record !== null) this.#attachRecorded(record, device, names);
    }
  }

  #attachRecorded(record: DeviceRecord, device: DeviceId, reused: ReadonlySet<string>): void {
    this.#attempt(device, 'attach', () => {
      this.#controller.attach(device, requestOf(record));
      this.#present.add(deviceText(device));
      const before = record.device;
      const renamed = before.name !== device.name;
      // Its old name may be another device's new one.
      if (renamed && !reused.has(before.name)) this.#controller.records.remove(before);
      this.#tell('device.returned', device, { mac: record.mac, ...(renamed ? { earlierName: before.name } : {}) });
    });
  }

  /**
   * A section of the file that says something else than when it was last applied is applied; one that says the same leaves
   * what was changed since by other ways. A device that the file does not name is left alone.
   */
  applyConfig(config: Config): void {
    for (const section of config.devices) {
      const device: DeviceId = { name: section.name, netns: null };
      this.#attempt(device, 'configure', () => this.#applySection(device, section));
    }
  }

  #applySection(device: DeviceId, section: DeviceConfig): void {
    const controller = this.#controller;
    const sha256 = configSha256(section);
    if (controller.isPresent(device)) {
      const changed = controller.withDevice(device, (attached) => attached.applyConfig(section, sha256));
      if (changed) this.#tell('config.applied', device, { rules: section.rules.length, azs: section.azs.length });
      return;
    }
    if (controller.records.peek(device)?.configSha256 === sha256) return;
    controller.attach(device, { config: section, mode: 'native', configSha256: sha256 });
    this.#present.add(deviceText(device));
    this.#tell('device.attached', device, { rules: section.rules.length, azs: section.azs.length });
  }

  #tellDrift(device: DeviceId, drift: readonly Drift[]): void {
    const text = JSON.stringify(drift);
    const key = `drift ${deviceText(device)}`;
    if ((this.#told.get(key) ?? '[]') === text) return;
    this.#told.set(key, text);
    this.#tell(drift.length === 0 ? 'drift.mended' : 'drift.found', device, { drift: drift.map(driftText) });
  }

  /** Trouble with one device is told, once, and keeps no other from being looked after. */
  #attempt<T>(device: DeviceId | null, what: string, action: () => T): T | null {
    const key = `${what} ${device === null ? '' : deviceText(device)}`;
    try {
      const result = action();
      this.#told.delete(key);
      return result;
    } catch (error) {
      const { code, message, remedy = null } = error instanceof VnicError ? error : unexpected(error);
      if (this.#told.get(key) !== message) {
        this.#told.set(key, message);
        this.#tell('device.failed', device, { what, code, message, remedy });
      }
      return null;
    }
  }

  #tell(type: string, device: DeviceId | null, data: Record<string, unknown>): void {
    this.#publish({ type, device: device === null ? null : deviceText(device), data });
  }
}

/** A device that vanishes under a look at it makes system calls fail anywhere. */
function unexpected(error: unknown): VnicError {
  return new VnicError('failed', `Unexpected: ${String(error)}`, { cause: error });
}
