// SPDX-License-Identifier: Apache-2.0
/** Clears away what killed commands left of attachments and settings, and remembers which ones were found whole. */
import type { Native } from '../loader/ffi/index.ts';
import { type DeviceId, deviceText, PinFolder, pinnedDevices } from '../loader/pins.ts';
import { LINK_XDP } from './attach.ts';
import type { Leftovers } from './leftovers.ts';
import type { OpenDevices } from './open-devices.ts';
import type { RecordStore } from './record.ts';
import type { DeviceTuning } from './tuning/device-tuning.ts';

export interface SettlementParts {
  native: Native;
  records: RecordStore;
  tuning: DeviceTuning;
  leftovers: Leftovers;
  /** Devices that a daemon holds open; null for a command. */
  open: OpenDevices | null;
}

export class Settlement {
  readonly #parts: SettlementParts;
  /** Attachments that were found whole, by the inode of their link's pin. */
  readonly #whole = new Map<string, number>();
  /** Devices with leftovers that could not be cleared away, and why. */
  readonly #failures = new Map<string, unknown>();

  constructor(parts: SettlementParts) {
    this.#parts = parts;
  }

  /** The caller holds the lock. One device that cannot be cleared up is not in the way of the others. */
  settleAll(): void {
    this.#failures.clear();
    this.#parts.tuning.settle((device) => new PinFolder(this.#parts.native, device).exists(LINK_XDP));
    for (const device of pinnedDevices().filter((pinned) => this.#isOurs(pinned))) {
      const pins = new PinFolder(this.#parts.native, device);
      if (this.#parts.open?.get(pins) != null || this.#isWhole(pins)) continue;
      try {
        this.#parts.leftovers.settle(device);
        this.#note(pins);
      } catch (error) {
        this.#failures.set(deviceText(device), error);
      }
    }
  }

  /** Before a device is attached: what others left of it is in the way now. */
  settleForeign(device: DeviceId): void {
    if (new PinFolder(this.#parts.native, device).exists() && !this.#isOurs(device)) {
      this.#parts.leftovers.settle(device);
    }
  }

  /** What kept the device's leftovers from being cleared away; undefined if nothing did. */
  failureOf(device: DeviceId): unknown {
    return this.#failures.get(deviceText(device));
  }

  /**
   * A daemon looks around every second, and clears away only what belongs to its state: what another process is attaching
   * at the moment looks like leftovers.
   */
  #isOurs(device: DeviceId): boolean {
    const { open, records } = this.#parts;
    if (open === null) return true;
    const text = deviceText(device);
    return records.devices().some((known) => deviceText(known) === text) || records.readStaged(device) !== null;
  }

  /** What is gone has to be looked at again. */
  #isWhole(pins: PinFolder): boolean {
    const known = this.#whole.get(deviceText(pins.device));
    const isSame = known !== undefined && known === pins.inode(LINK_XDP);
    return isSame && this.#parts.leftovers.attachedIfindex(pins.device) !== null;
  }

  #note(pins: PinFolder): void {
    const inode = pins.inode(LINK_XDP);
    if (inode === null) this.#whole.delete(deviceText(pins.device));
    else this.#whole.set(deviceText(pins.device), inode);
  }
}
