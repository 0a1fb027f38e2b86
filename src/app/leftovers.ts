// SPDX-License-Identifier: Apache-2.0
/** Taking a dataplane off a device, whole or half attached. */
import { VnicError } from '../errors.ts';
import { clsactEgressProgram, detachClsactEgress } from '../loader/clsact.ts';
import type { Native } from '../loader/ffi/index.ts';
import { linkInfo } from '../loader/link.ts';
import { inNetns } from '../loader/netns.ts';
import { type DeviceId, PinFolder } from '../loader/pins.ts';
import { DeviceSettings } from '../loader/settings/device-settings.ts';
import { LINK_EGRESS, LINK_XDP } from './attach.ts';
import { Dataplane } from './dataplane.ts';
import { restoreSettings } from './levers.ts';
import { deviceShape } from './machine.ts';
import type { RecordFields, RecordStore } from './record.ts';
import { TableStore } from './table-store.ts';

export class Leftovers {
  readonly #native: Native;
  readonly #records: RecordStore;

  constructor(native: Native, records: RecordStore) {
    this.#native = native;
    this.#records = records;
  }

  /** Links first: no packet meets a dataplane that is half gone. */
  takeOff(device: DeviceId): void {
    const pins = new PinFolder(this.#native, device);
    const ifindex = this.attachedIfindex(device);
    const record = this.#record(device);
    const former = record?.formerSettings;
    const restore = (when: 'attached' | 'detached'): void => {
      if (ifindex === null || former === undefined) return;
      using settings = new DeviceSettings(this.#native, device);
      restoreSettings(settings, former, when);
    };
    restore('attached');
    pins.unpin(LINK_XDP);
    pins.unpin(LINK_EGRESS);
    if (ifindex !== null) this.#takeOffClsact(device, ifindex, record);
    restore('detached');
    pins.remove();
    this.#records.dropStaged(device);
  }

  /**
   * Finishes or clears away what a killed attach or detach left. Pins without a link or without an active table: it was
   * not done. A staged record beside an active table: it was, but for the last rename.
   */
  settle(device: DeviceId): void {
    const pins = new PinFolder(this.#native, device);
    // A device that is gone took its attachment along; the record stays, for when it comes back.
    if (pins.exists(LINK_XDP) && this.attachedIfindex(device) !== null) {
      try {
        using dataplane = Dataplane.open(this.#native, pins);
        if (new TableStore(dataplane).active() !== null) {
          this.#records.promote(device);
          return;
        }
      } catch (error) {
        // Another version's pins, other layouts or fewer of them, are not ours to remove: detach --force does that when
        // asked. The link is pinned after everything else and unpinned before it, so nothing of ours is missing here.
        if (error instanceof VnicError && (error.code === 'abi_mismatch' || error.code === 'not_found')) return;
        throw error;
      }
    }
    this.takeOff(device);
  }

  /** By its link, or by its name for an attach that was killed before there was one. Null: the device is gone. */
  attachedIfindex(device: DeviceId): number | null {
    const pins = new PinFolder(this.#native, device);
    if (pins.exists(LINK_XDP)) {
      using link = pins.open(LINK_XDP);
      const { ifindex } = linkInfo(this.#native, link);
      return ifindex === 0 ? null : ifindex;
    }
    return ifThere(() => inNetns(this.#native, device.netns, () => deviceShape(device.name).ifindex));
  }

  #takeOffClsact(device: DeviceId, ifindex: number, record: RecordFields | null): void {
    if (record !== null && record.settings.egress !== 'clsact') return;
    const clsactMade = record?.clsactMade ?? false;
    ifThere(() =>
      inNetns(this.#native, device.netns, () => {
        if (clsactMade || clsactEgressProgram(this.#native, ifindex) !== null) {
          detachClsactEgress(this.#native, ifindex, clsactMade);
        }
      }),
    );
  }

  /** Of the attachment that is there, also if it is half done. */
  #record(device: DeviceId): RecordFields | null {
    return this.#records.readStaged(device) ?? this.#readRecordQuietly(device);
  }

  #readRecordQuietly(device: DeviceId): RecordFields | null {
    try {
      return this.#records.peek(device);
    } catch (error) {
      if (error instanceof VnicError && error.code === 'state_damaged') return null;
      throw error;
    }
  }
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
