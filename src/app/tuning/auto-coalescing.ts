// SPDX-License-Identifier: Apache-2.0
/**
 * Sets how long each device may delay interrupts, by the packets it receives: what a daemon does for its devices while
 * adaptive_coalesce is on. When a device is quiet its settings are what they were before.
 */
import { VnicError } from '../../errors.ts';
import { type DeviceId, deviceText } from '../../loader/pins.ts';
import type { SettingName } from '../../loader/settings/setting.ts';
import { type CoalescingState, ladder, nextStep, quiet } from '../../tune/coalescing.ts';
import type { WantedSetting } from '../../tune/journal.ts';
import { napiCoalescing } from '../../tune/plan.ts';
import type { DeviceTuning, InterruptDelay } from './device-tuning.ts';

/** How it stands with a device. */
export interface CoalescingStatus {
  /** The delay that is allowed now, µs; 0: settings are as they were before. */
  delayUsecs: number;
  packetsPerSecond: number;
  /** Since the device was opened. */
  changes: number;
  via: InterruptDelay;
  /** Why it does not go on; null: it does. */
  stopped: string | null;
}

/** An attached device, as far as coalescing has to do with it. */
export interface CoalescedDevice {
  readonly record: { readonly device: DeviceId };
  readonly config: {
    readonly coalesceUsecs: number;
    readonly adaptiveCoalesce: boolean;
    readonly adaptiveThreshold: number;
  };
  /** Set here; null: it is off. */
  coalescing: CoalescingStatus | null;
}

export interface AutoCoalescingOptions<Device extends CoalescedDevice> {
  controller: {
    heldOpen(): Device[];
    locked<T>(action: () => T): T;
    tuning: Pick<DeviceTuning, 'status' | 'hold' | 'restore' | 'interruptDelay'>;
  };
  /** Packets that the device has received since it was attached. */
  received: (device: Device) => bigint;
  publish: (event: { type: string; device: string | null; data: Record<string, unknown> }) => void;
}

interface Followed {
  state: CoalescingState;
  packets: bigint;
  atMs: number;
  status: CoalescingStatus;
}

const HOLDER = 'coalescing';

export class AutoCoalescing<Device extends CoalescedDevice> {
  readonly #options: AutoCoalescingOptions<Device>;
  /** A device that was closed and opened again is another one: what it holds is found in its journal. */
  readonly #followed = new WeakMap<Device, Followed>();

  constructor(options: AutoCoalescingOptions<Device>) {
    this.#options = options;
  }

  /** One look at every device; to be called about every half second. Never throws; what stops it is told once. */
  run(nowMs = performance.now()): void {
    for (const device of this.#options.controller.heldOpen()) {
      try {
        this.#look(device, nowMs);
      } catch (error) {
        this.#stop(device, error);
      }
    }
  }

  #look(device: Device, nowMs: number): void {
    const { adaptiveCoalesce, coalesceUsecs, adaptiveThreshold: threshold } = device.config;
    if (!adaptiveCoalesce || coalesceUsecs === 0) {
      if (this.#followed.delete(device)) this.#release(device);
      device.coalescing = null;
      return;
    }
    const packets = this.#options.received(device);
    const followed = this.#followed.get(device) ?? this.#begin(device, packets, nowMs);
    const seconds = (nowMs - followed.atMs) / 1000;
    if (seconds <= 0 || followed.status.stopped !== null) return;
    const packetsPerSecond = Number(packets - followed.packets) / seconds;
    followed.packets = packets;
    followed.atMs = nowMs;
    followed.status.packetsPerSecond = packetsPerSecond;
    // Who fills the ring of such a device has it polled at once. By a timer it would be polled later, and saves nothing.
    if (followed.status.via === 'none') return;
    followed.state = nextStep(followed.state, packetsPerSecond, { coalesceUsecs, threshold });
    const delays = ladder(coalesceUsecs);
    const delayUsecs = delays[followed.state.step]!;
    if (delayUsecs !== followed.status.delayUsecs) this.#change(device, followed.status, delayUsecs, delays);
  }

  #begin(device: Device, packets: bigint, atMs: number): Followed {
    // What a daemon that was killed left.
    this.#release(device);
    const via = this.#options.controller.tuning.interruptDelay(device.record.device);
    const status: CoalescingStatus = { delayUsecs: 0, packetsPerSecond: 0, changes: 0, via, stopped: null };
    const followed = { state: quiet, packets, atMs, status };
    this.#followed.set(device, followed);
    device.coalescing = status;
    return followed;
  }

  #change(device: Device, status: CoalescingStatus, delayUsecs: number, delays: readonly number[]): void {
    const { controller, publish } = this.#options;
    const id = device.record.device;
    controller.locked(() => {
      const [foreign] = controller.tuning.status(id).foreign.filter(({ name }) => coalescingSettings.has(name));
      if (foreign !== undefined) {
        throw new VnicError('conflict', `Somebody else has set ${foreign.name} to ${foreign.now}.`);
      }
      if (delayUsecs === 0) this.#release(device);
      else this.#set(id, status, delayUsecs, delays);
    });
    const { via, packetsPerSecond } = status;
    const data = {
      fromUsecs: status.delayUsecs,
      toUsecs: delayUsecs,
      packetsPerSecond: Math.round(packetsPerSecond),
      via,
    };
    status.delayUsecs = delayUsecs;
    status.changes++;
    publish({ type: 'coalescing.changed', device: deviceText(id), data });
  }

  /** A driver may know of delays and yet refuse them: then NAPI does it. */
  #set(id: DeviceId, status: CoalescingStatus, delayUsecs: number, delays: readonly number[]): void {
    const { tuning } = this.#options.controller;
    if (status.via === 'ethtool') {
      try {
        tuning.hold(id, HOLDER, wanted('ethtool', delayUsecs, delays));
        return;
      } catch (error) {
        if (!(error instanceof VnicError && error.code === 'kernel_refused')) throw error;
        status.via = 'napi';
      }
    }
    tuning.hold(id, HOLDER, wanted('napi', delayUsecs, delays));
  }

  #release(device: Device): void {
    const { controller } = this.#options;
    controller.locked(() => controller.tuning.restore(device.record.device, [HOLDER]));
  }

  #stop(device: Device, error: unknown): void {
    // It vanished meanwhile: the keeper tells that.
    if (error instanceof VnicError && error.code === 'not_found') return;
    const message = error instanceof Error ? error.message : String(error);
    const status = this.#followed.get(device)?.status;
    if (status === undefined || status.stopped !== null) return;
    status.stopped = message;
    const remedy = 'Put the setting back, or set adaptive_coalesce to false; it begins anew when the daemon starts.';
    const data = { what: 'adapt coalescing', message, remedy };
    this.#options.publish({ type: 'coalescing.stopped', device: deviceText(device.record.device), data });
  }

  /** The devices go on without anybody who looks: settings are put back. */
  end(): void {
    for (const device of this.#options.controller.heldOpen()) {
      if ((this.#followed.get(device)?.status.delayUsecs ?? 0) === 0) continue;
      try {
        this.#release(device);
      } catch (error) {
        // Whoever starts next finds the journal.
        if (!(error instanceof VnicError)) throw error;
      }
    }
  }
}

const coalescingSettings: ReadonlySet<SettingName> = new Set([
  'coalesce/adaptive-rx',
  'coalesce/rx-usecs',
  'gro_flush_timeout',
  'napi_defer_hard_irqs',
] as const);

/** With every value that may follow, so that none of them is taken for somebody else's. */
function wanted(via: 'ethtool' | 'napi', delayUsecs: number, delays: readonly number[]): WantedSetting[] {
  const of = (usecs: number): (readonly [name: SettingName, to: string])[] =>
    via === 'napi'
      ? napiCoalescing(usecs)
      : [
          ['coalesce/adaptive-rx', 'off'],
          ['coalesce/rx-usecs', String(usecs)],
        ];
  const values = delays.filter((usecs) => usecs > 0).map(of);
  return of(delayUsecs).map(([name, to], index) => ({ name, to, values: values.map((list) => list[index]![1]) }));
}
