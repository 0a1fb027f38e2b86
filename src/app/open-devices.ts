// SPDX-License-Identifier: Apache-2.0
/** Devices that a long-lived process holds open, so that an operation need not map and read everything again. */
import { type DeviceId, deviceText, type PinFolder } from '../loader/pins.ts';
import { LINK_XDP } from './attach.ts';
import type { AttachedDevice } from './attached-device.ts';

interface OpenDevice {
  device: AttachedDevice;
  /** bpffs gives each pin its own inode: another number means another attachment. */
  pinInode: number;
}

export class OpenDevices {
  readonly #open = new Map<string, OpenDevice>();

  /** Null where it is not open, or is not the attachment any more that was opened. */
  get(pins: PinFolder): AttachedDevice | null {
    const key = deviceText(pins.device);
    const known = this.#open.get(key);
    if (known === undefined) return null;
    if (known.pinInode === pins.inode(LINK_XDP)) return known.device;
    this.drop(pins.device);
    return null;
  }

  put(pins: PinFolder, device: AttachedDevice): void {
    this.drop(pins.device);
    const pinInode = pins.inode(LINK_XDP);
    if (pinInode === null) device.close();
    else this.#open.set(deviceText(pins.device), { device, pinInode });
  }

  drop(device: DeviceId): void {
    const key = deviceText(device);
    this.#open.get(key)?.device.close();
    this.#open.delete(key);
  }

  /** Also those that are not the attachment any more that was opened. */
  all(): AttachedDevice[] {
    return [...this.#open.values()].map(({ device }) => device);
  }

  close(): void {
    for (const { device } of this.#open.values()) device.close();
    this.#open.clear();
  }
}
