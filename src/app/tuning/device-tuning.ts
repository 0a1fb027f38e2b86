// SPDX-License-Identifier: Apache-2.0
/** Settings of the host side of devices: looking at them, taking hold of them, putting them back. */
import { existsSync, readFileSync } from 'node:fs';
import type { DeviceConfig } from '../../config/device.ts';
import { VnicError } from '../../errors.ts';
import { Ethtool } from '../../loader/ethtool.ts';
import type { Native } from '../../loader/ffi/index.ts';
import { inNetns } from '../../loader/netns.ts';
import { type DeviceId, deviceText } from '../../loader/pins.ts';
import { driverOf } from '../../loader/preflight/gather/ethtool.ts';
import { realFiles } from '../../loader/preflight/host-ports.ts';
import { DeviceSettings } from '../../loader/settings/device-settings.ts';
import { isMachineSetting } from '../../loader/settings/setting.ts';
import type { CpuSpec } from '../../steering/queues.ts';
import { type EthtoolLimits, gatherCpus, gatherTuneFacts, nodeOf, type TuneFacts } from '../../tune/facts.ts';
import {
  holdSettings,
  type JournalPort,
  type Restored,
  restoreSettings,
  type TunePorts,
} from '../../tune/interpreter.ts';
import {
  type ForeignSetting,
  foreignSettings,
  type HeldSetting,
  type Holder,
  holders,
  type Journal,
  type OtherHold,
  type WantedSetting,
} from '../../tune/journal.ts';
import { orderCpus } from '../../tune/placement.ts';
import { JournalStore } from './journal-store.ts';

/** virtio features by bit (include/uapi/linux/virtio_net.h, virtio_config.h): what can be set while the device runs. */
const VIRTIO_NET_F_NOTF_COAL = 53;
const VIRTIO_F_RING_RESET = 40;

/** The device itself; NAPI, which polls it by a timer meanwhile; none: the device raises no interrupts. */
export type InterruptDelay = 'ethtool' | 'napi' | 'none';

/** A setting that is held, and what it is now. */
export interface HeldNow extends HeldSetting {
  /** Null: it is gone. */
  readonly now: string | null;
}

export interface TuningStatus {
  readonly held: readonly HeldNow[];
  /** Changed by somebody else since. */
  readonly foreign: readonly ForeignSetting[];
  /** A process died while it was setting these, or putting them back. */
  readonly interrupted: boolean;
}

/** What is left when there is no device any more. */
export type Released = Pick<Restored, 'restored' | 'foreign' | 'failed'>;
const nothing: Released = { restored: [], foreign: [], failed: [] };

/** Whoever calls anything but facts() and status() holds the machine's lock. */
export class DeviceTuning {
  readonly #native: Native;
  readonly #journals: JournalStore;

  constructor(native: Native, stateFolder: string) {
    this.#native = native;
    this.#journals = new JournalStore(stateFolder);
  }

  /** CPUs in the order in which the device's queues are dealt to them. Throws `not_found`, `not_permitted`. */
  cpusFor(device: DeviceId, { enableNumaAware }: DeviceConfig): CpuSpec[] {
    const deviceNode = this.#with(device, ({ folder }) => nodeOf(realFiles, folder));
    const wish = { numaNode: -1, numaAware: enableNumaAware, deviceNode };
    return orderCpus(gatherCpus(realFiles), wish).map(({ cpu, node }) => ({ cpu, numaNode: node }));
  }

  /** Throws `not_found`, `not_permitted`. */
  facts(device: DeviceId): TuneFacts {
    return this.#with(device, (settings) => {
      const held = new Set(this.#journal(device, settings).settings.map(({ name }) => name));
      const other = this.#other(device);
      return gatherTuneFacts(device.name, {
        files: realFiles,
        settings,
        heldByOthers: (name) => !held.has(name) && other(name) !== null,
        sysfs: settings.root,
        ethtool: (features) => this.#limits(device, features),
      });
    });
  }

  /** What can delay the device's receive interrupts by a time that can be set. Throws `not_found`. */
  interruptDelay(device: DeviceId): InterruptDelay {
    return this.#with(device, ({ folder }) => {
      // A device without a bus, such as veth, has no interrupts.
      if (!existsSync(`${folder}/device`)) return 'none';
      return this.#limits(device, realFiles.read(`${folder}/device/features`)).rxUsecs ? 'ethtool' : 'napi';
    });
  }

  /** Throws `not_found`, `not_permitted`. */
  status(device: DeviceId): TuningStatus {
    return this.#with(device, (settings) => {
      const journal = this.#journal(device, settings);
      return {
        held: journal.settings.map((held) => ({ ...held, now: settings.read(held.name) })),
        foreign: foreignSettings(journal, (name) => settings.read(name)),
        interrupted: journal.unsettled.length > 0,
      };
    });
  }

  /** Sets settings, remembering what was there. Throws `kernel_refused`, `not_permitted`; nothing is changed then. */
  hold(device: DeviceId, by: Holder, wanted: readonly WantedSetting[]): void {
    if (wanted.length === 0) return;
    this.#with(device, (settings) => {
      holdSettings(this.#ports(device, settings), this.#journal(device, settings), by, wanted);
    });
  }

  /** Puts back what these hold. A device that is gone took its settings along, but not those of the machine. */
  restore(device: DeviceId, by: readonly Holder[] = holders, force = false): Released {
    const kept = this.#journals.read(device);
    if (kept === null) return nothing;
    try {
      return this.#with(device, (settings) =>
        restoreSettings(this.#ports(device, settings), this.#journal(device, settings), by, force),
      );
    } catch (error) {
      if (!(error instanceof VnicError && error.code === 'not_found')) throw error;
      return this.#restoreMachine(kept, [], force);
    }
  }

  /**
   * Puts back what a device that is gone held of the machine's settings.
   *
   * @param rest what stays in the journal
   */
  #restoreMachine(kept: Journal, rest: Journal['settings'], force: boolean): Released {
    const { device } = kept;
    const machine = machineSettingsIn(kept);
    const unsettled = kept.unsettled.filter((name) => !isMachineSetting(name));
    const journal: JournalPort = {
      write: ({ settings }) => this.#journals.write({ ...kept, settings: [...rest, ...settings], unsettled }),
    };
    if (machine.length === 0) {
      journal.write({ ...kept, settings: [] });
      return nothing;
    }
    // They are in every namespace, and the device's may be gone too.
    using settings = new DeviceSettings(this.#native, { ...device, netns: null });
    const ports = { ...this.#ports(device, settings), journal };
    return restoreSettings(ports, { ...kept, settings: machine }, holders, force);
  }

  /** From here on everything is put back, even if this process dies: by whoever comes next. */
  end(device: DeviceId): void {
    const journal = this.#journals.read(device);
    if (journal !== null) this.#journals.write({ ...journal, ending: [...holders] });
  }

  /**
   * Finishes what a process that died was putting back, and puts back what an attachment held that is no more, and of the
   * machine's settings what a device held that is gone. Trouble with one device keeps no other from it.
   */
  settle(isAttached: (device: DeviceId) => boolean): void {
    for (const device of this.#journals.devices()) {
      try {
        const journal = this.#journals.read(device);
        if (journal === null) continue;
        if (machineSettingsIn(journal).length > 0 && this.#isGone(journal)) {
          const rest = journal.settings.filter(({ name }) => !isMachineSetting(name));
          this.#restoreMachine(journal, rest, false);
        } else this.#settle(journal, isAttached(device));
      } catch (error) {
        // A damaged journal was set aside; what cannot be put back is tried again.
        if (!(error instanceof VnicError)) throw error;
      }
    }
  }

  #settle(journal: Journal, isAttached: boolean): void {
    const { device, ending, settings } = journal;
    if (isAttached) {
      // A detach that died before it took the dataplane off has not begun.
      if (ending.includes('attach')) this.#journals.write({ ...journal, ending: [] });
      else if (ending.length > 0) this.restore(device, ending);
      return;
    }
    const held = settings.some(({ holds }) => holds.some(({ by }) => by === 'attach')) ? ['attach' as const] : [];
    const over = new Set<Holder>([...ending, ...held]);
    if (over.size > 0) this.restore(device, [...over]);
  }

  #limits(device: DeviceId, features: string | null): EthtoolLimits {
    return inNetns(this.#native, device.netns, () => limitsOf(this.#native, device.name, features));
  }

  #ports(device: DeviceId, settings: DeviceSettings): TunePorts {
    return { settings, journal: this.#journals, other: this.#other(device) };
  }

  /** What the journals of the other devices hold of the machine's settings. */
  #other(device: DeviceId): OtherHold {
    return (name) => {
      if (!isMachineSetting(name)) return null;
      const others = this.#journals.devices().filter((other) => deviceText(other) !== deviceText(device));
      const held = others.flatMap((other) => {
        const journal = this.#journals.read(other);
        return journal === null ? [] : machineSettingsIn(journal);
      });
      return held.find((setting) => setting.name === name) ?? null;
    };
  }

  /** What was changed before the machine was started, or of a device that had the name before, is no more. */
  #journal(device: DeviceId, settings: DeviceSettings): Journal {
    const ifindex = ifindexOf(settings);
    const kept = this.#journals.read(device);
    if (kept !== null && kept.bootId === bootId() && kept.ifindex === ifindex) return kept;
    const machine = kept === null ? [] : machineSettingsIn(kept);
    return { device, bootId: bootId(), ifindex, settings: machine, unsettled: [], ending: [] };
  }

  /** Whether there is no such device any more, or another one with its name. */
  #isGone({ device, ifindex }: Journal): boolean {
    try {
      return this.#with(device, (settings) => ifindexOf(settings) !== ifindex);
    } catch (error) {
      if (!(error instanceof VnicError && error.code === 'not_found')) throw error;
      return true;
    }
  }

  #with<T>(device: DeviceId, action: (settings: DeviceSettings) => T): T {
    using settings = new DeviceSettings(this.#native, device);
    if (!existsSync(settings.folder)) {
      throw new VnicError('not_found', `There is no network device ${deviceText(device)}.`, {
        remedy: 'List the devices with: ip link (use --netns NAME for a device in a namespace)',
      });
    }
    return action(settings);
  }
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

function ifindexOf({ folder }: DeviceSettings): number {
  return Number(readFileSync(`${folder}/ifindex`, 'utf8'));
}

/** What is held of the machine's settings. They end with the machine. */
function machineSettingsIn(journal: Journal): HeldSetting[] {
  return journal.bootId === bootId() ? journal.settings.filter(({ name }) => isMachineSetting(name)) : [];
}

/** @param features of a virtio device: character i is bit i */
function limitsOf(native: Native, device: string, features: string | null): EthtoolLimits {
  using ethtool = new Ethtool(native, device);
  const has = (bit: number): boolean => features === null || features[bit] === '1';
  const maxCombined = ethtool.channels()?.maxCombined ?? 0;
  return {
    driver: driverOf(native, device)?.driver ?? null,
    maxCombined: maxCombined === 0 ? null : maxCombined,
    maxRxRing: has(VIRTIO_F_RING_RESET) ? (ethtool.rings()?.rxMaxPending ?? null) : null,
    rxUsecs: has(VIRTIO_NET_F_NOTF_COAL) && ethtool.coalescing() !== null,
  };
}
