// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps devices as they were asked for while a daemon runs: adopts what is pinned, attaches what is recorded, follows a
 * device that goes and comes back, and applies the configuration file.
 */
import { createHash } from 'node:crypto';
import type { Config } from '../config/config.ts';
import { type DeviceConfig, formatDevice } from '../config/device.ts';
import { VnicError } from '../errors.ts';
import type { Link } from '../loader/device-watch.ts';
import { type DeviceId, deviceText } from '../loader/pins.ts';
import { requestOf } from './attach-request.ts';
import { captureEnded, endAbandonedCapture } from './capture.ts';
import type { Controller } from './controller.ts';
import { type Drift, driftText } from './drift.ts';
import { type KnownDevice, matchDevices, type Reattachment } from './reattach.ts';
import { objectSha256 } from './upgrade.ts';

/** Something to tell whoever follows the events. */
export type Publish = (event: { type: string; device: string | null; data: Record<string, unknown> }) => void;

/** Names a section of the configuration file by what it says, not by how it is written. */
export function configSha256(config: DeviceConfig): string {
  return createHash('sha256')
    .update(JSON.stringify(formatDevice(config)))
    .digest('hex');
}

/** A look at rules goes through the whole map: not with each look at the device. */
const COUNT_AGE_MS = 10_000;

/** For so many looks in a row a lock that somebody else has is a reason to come back later. */
const MOST_LOOKS_PUT_OFF = 10;

/** What failed is tried again after this, or when another device has the name. */
const RETRY_MS = 30_000;

export class Keeper {
  readonly #controller: Controller;
  readonly #publish: Publish;
  /** Recorded devices that were not there at the last look. */
  readonly #gone = new Set<string>();
  /** Recorded devices that are yet to be adopted. */
  readonly #unadopted = new Map<string, DeviceId>();
  /** Sections of the configuration that are yet to be applied, by device. */
  #sections = new Map<string, DeviceConfig>();
  /** Attempts, by device: which device it was, and when the next one is due. */
  readonly #refused = new Map<string, { ifindex: number; againMs: number }>();
  /** What was last told of each device, so that it is told once. */
  readonly #told = new Map<string, string>();
  /** Since the last one that took place. */
  #looksPutOff = 0;

  constructor(controller: Controller, publish: Publish) {
    this.#controller = controller;
    this.#publish = publish;
  }

  /** Adopts, upgrades and attaches whatever is recorded; then applies the configuration. Trouble with one device is told. */
  start(config: Config | null): void {
    for (const device of this.#controller.records.devices()) this.#unadopted.set(deviceText(device), device);
    this.#attempt(null, 'look at devices', () => {
      const recorded = this.#recorded();
      // Killed while records were renamed: what is staged beside a device that is not attached is what comes next.
      this.#controller.locked(() => {
        for (const device of recorded)
          if (!this.#controller.isAttached(device)) this.#controller.records.promote(device);
      });
      this.#adoptRest(recorded);
      this.#reattach(this.#recorded().filter((device) => !this.#controller.isPresent(device)));
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
      // What the kernel did while nobody looked; the guard tells of it.
      attached.steering.adoptLosses();
      return attached.drift();
    });
    this.#gone.delete(deviceText(device));
    this.#tell('device.adopted', device, { drift: drift.map(driftText) });
    if (upgraded !== null) this.#tell('device.upgraded', device, { ...upgraded });
    this.#tellDrift(device, drift);
    return true;
  }

  /** One look at every device: who is gone, who is back, what drifted. Never throws. */
  look(): void {
    const attempt = (look: () => void): void => {
      this.#attempt(null, 'look at devices', look);
    };
    let isPutOff = this.#looksPutOff < MOST_LOOKS_PUT_OFF;
    if (isPutOff) {
      // Scrapes and failovers would wait with this thread for whoever has the lock.
      this.#attempt(null, 'clear away leftovers', () =>
        this.#controller.lockedIfFree(() => {
          isPutOff = false;
          attempt(() => this.#look());
        }),
      );
    } else {
      attempt(() => this.#controller.locked(() => this.#look()));
    }
    this.#looksPutOff = isPutOff ? this.#looksPutOff + 1 : 0;
  }

  #look(): void {
    const recorded = this.#recorded();
    this.#adoptRest(recorded);
    const known = new Set(recorded.map(deviceText));
    for (const text of this.#gone) if (!known.has(text)) this.#gone.delete(text);
    for (const device of recorded) {
      const text = deviceText(device);
      const isPresent = this.#controller.isPresent(device);
      if (!isPresent) {
        this.#controller.forget(device);
        if (!this.#gone.has(text)) this.#tell('device.gone', device, {});
        this.#gone.add(text);
      }
      if (isPresent) {
        this.#gone.delete(text);
        this.#attempt(device, 'look at', () => this.#lookAt(device));
      }
    }
    this.#reattach(recorded.filter((device) => this.#gone.has(deviceText(device))));
    this.#applySections();
  }

  #lookAt(device: DeviceId): void {
    const { drift, captured } = this.#controller.readDevice(device, (attached) => ({
      drift: attached.drift(COUNT_AGE_MS),
      captured: endAbandonedCapture(attached.dataplane),
    }));
    this.#tellDrift(device, drift);
    if (captured !== null) this.#tell('capture.ended', device, captureEnded('abandoned', captured));
  }

  /**
   * Attaches recorded devices that are there and not attached, under the name they have now.
   * @param absent recorded devices that are not attached under the name they had
   */
  #reattach(absent: readonly DeviceId[]): void {
    const controller = this.#controller;
    const missing = new Map<string | null, KnownDevice[]>();
    for (const device of absent) {
      const known = this.#attempt(device, 'read', () => controller.locked(() => controller.records.peek(device)));
      if (known !== null) missing.set(device.netns, [...(missing.get(device.netns) ?? []), known]);
    }
    for (const [netns, records] of missing) {
      const taken = controller.devices().filter((device) => device.netns === netns && controller.isPresent(device));
      const links = controller.links(netns);
      const matches = matchDevices(records, links, new Set(taken.map(({ name }) => name)));
      const worthwhile = matches.filter(({ name }) => this.#isWorthTrying({ name, netns }, links));
      this.#attempt(null, 'rename records', () => this.#moveRecords(worthwhile, netns));
      for (const { record, name } of worthwhile) this.#attachRecorded({ name, netns }, record.device.name);
    }
  }

  /**
   * Gives records the names that their devices have now, before any of them is attached: two devices may have changed
   * names. The new ones are all on disk before the first takes the place of an old one.
   */
  #moveRecords(matches: readonly Reattachment[], netns: string | null): void {
    const { records } = this.#controller;
    const renamed = matches.filter(({ record, name }) => record.device.name !== name);
    if (renamed.length === 0) return;
    this.#controller.locked(() => {
      const moved = renamed.flatMap(({ record, name }) => {
        const full = records.read(record.device);
        return full === null ? [] : [{ ...full, device: { name, netns } }];
      });
      for (const record of moved) records.stage(record);
      for (const { device } of moved) records.promote(device);
      const names = new Set(matches.map(({ name }) => name));
      for (const { record } of renamed) if (!names.has(record.device.name)) records.remove(record.device);
    });
  }

  #attachRecorded(device: DeviceId, earlierName: string): void {
    const done = this.#attempt(device, 'attach', () => {
      const record = this.#controller.locked(() => this.#controller.records.read(device));
      if (record === null) return true;
      this.#controller.attach(device, requestOf(record));
      this.#gone.delete(deviceText(device));
      const { mac } = record;
      this.#tell('device.returned', device, { mac, ...(earlierName === device.name ? {} : { earlierName }) });
      return true;
    });
    if (done !== null) this.#refused.delete(deviceText(device));
  }

  /** What was refused a moment ago is not tried again and again, unless it is another device by now. */
  #isWorthTrying(device: DeviceId, links: ReadonlyMap<string, Link>): boolean {
    const key = deviceText(device);
    const ifindex = links.get(device.name)?.ifindex;
    if (ifindex === undefined) return false;
    const last = this.#refused.get(key);
    const now = performance.now();
    if (last !== undefined && last.ifindex === ifindex && now < last.againMs) return false;
    this.#refused.set(key, { ifindex, againMs: now + RETRY_MS });
    return true;
  }

  /**
   * A section of the file that says something else than when it was last applied is applied; one that says the same leaves
   * what was changed since by other ways. A device that the file does not name is left alone. What cannot be applied now
   * is tried again.
   */
  applyConfig(config: Config): void {
    this.#sections = new Map(config.devices.map((section) => [section.name, section]));
    this.#refused.clear();
    this.#applySections();
  }

  #applySections(): void {
    if (this.#sections.size === 0) return;
    const links = this.#controller.links(null);
    for (const [name, section] of this.#sections) {
      const device: DeviceId = { name, netns: null };
      const key = deviceText(device);
      if (!links.has(name)) {
        this.#tellOnce(`absent ${key}`, 'device.absent', device);
        continue;
      }
      this.#told.delete(`absent ${key}`);
      if (!this.#isWorthTrying(device, links)) continue;
      const done = this.#attempt(device, 'configure', () => this.#applySection(device, section));
      if (done === null) continue;
      this.#sections.delete(name);
      this.#refused.delete(key);
    }
  }

  /** Gives true: an attempt that was made. */
  #applySection(device: DeviceId, section: DeviceConfig): boolean {
    const controller = this.#controller;
    const sha256 = configSha256(section);
    const data = { rules: section.rules.length, azs: section.azs.length };
    if (controller.isPresent(device)) {
      const changed = controller.withDevice(device, (attached) => attached.spec.applyConfig(section, sha256));
      if (changed) this.#tell('config.applied', device, data);
      return true;
    }
    if (controller.locked(() => controller.records.peek(device))?.configSha256 === sha256) return true;
    controller.attach(device, { config: section, mode: 'native', configSha256: sha256 });
    this.#gone.delete(deviceText(device));
    this.#tell('device.attached', device, data);
    return true;
  }

  #tellOnce(key: string, type: string, device: DeviceId): void {
    if (this.#told.has(key)) return;
    this.#told.set(key, type);
    this.#tell(type, device, {});
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
