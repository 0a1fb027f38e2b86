// SPDX-License-Identifier: Apache-2.0
/**
 * The redirect mode of an open device: what packets meet, what the device is told, and whether it obeys. A mode that was
 * asked for stays; with `auto` the device is tried beside `cpumap`, and what it does decides.
 */
import { Ethtool, type RssSettings } from '../loader/ethtool.ts';
import { inNetns } from '../loader/netns.ts';
import { DeviceSettings } from '../loader/settings/device-settings.ts';
import { VnicControl } from '../maps/generated/abi.ts';
import { withUsable } from '../steering/queues.ts';
import {
  judgeObedience,
  type Lever,
  type Obedience,
  obedienceText,
  type RedirectChoice,
  type RedirectMode,
  type RedirectSetting,
} from '../steering/redirect.ts';
import { type EntryLoad, planRss } from '../steering/rss-plan.ts';
import { readQueueCounters } from '../telemetry/counters.ts';
import type { RedirectSample } from '../telemetry/metrics/sample.ts';
import type { AzSteering } from './az-steering.ts';
import type { Dataplane } from './dataplane.ts';
import type { DeviceState } from './device-state.ts';
import { followArrivals, rssArrivals } from './flow-arrivals.ts';
import { FlowTable } from './flow-table.ts';
import { formerOf, leverChanges, restoreSettings, writeSettings } from './levers.ts';
import { onlineCpus } from './machine.ts';
import type { RedirectRecord } from './record.ts';
import type { TableStore } from './table-store.ts';

export interface RedirectStatus {
  asked: RedirectSetting;
  mode: RedirectMode;
  /** What the device is tried for. */
  trial: Lever | null;
  reason: string;
  since: string;
  /** What flows say of the device; null: nothing is asked of it. */
  device: Obedience | null;
  steeredPackets: bigint;
  /** Of these: arrived on another NIC queue than theirs. */
  missedPackets: bigint;
  /** Of these: passed where they arrived. */
  directPackets: bigint;
  /** Of these: arrived on their queue, but not on its CPU. */
  offCpuPackets: bigint;
}

/** What flows say, and the device's RSS table where that is the lever. */
interface Look {
  device: Obedience | null;
  loads: ReadonlyMap<number, EntryLoad>;
  rss: RssSettings | null;
}

/** What a look found to be done. */
export type RedirectDue =
  | { kind: 'begin' | 'end'; reason: string }
  | { kind: 'tell'; reason: string }
  | { kind: 'none' };

/** What acting on it does. */
export function dueText({ kind, reason }: Exclude<RedirectDue, { kind: 'none' }>): string {
  if (kind === 'tell') return `set the RSS table: ${reason}`;
  return `${kind === 'begin' ? 'begin with what is on trial' : 'go back to redirect mode cpumap'}: ${reason}`;
}

export interface RedirectChange {
  from: RedirectMode;
  to: RedirectMode;
  reason: string;
}

export interface RedirectParts {
  dataplane: Dataplane;
  tables: TableStore;
  steering: Pick<AzSteering, 'usableQueues'>;
  state: DeviceState;
}

/** Flows leave their way in order for so long after the mode was changed. */
const SETTLE_MS = 2000;

export const unchosen: RedirectRecord = {
  mode: 'cpumap',
  trial: null,
  reason: 'attached before there was a choice',
  since: new Date(0).toISOString(),
};

/** The lever that is pulled; null: none. */
export function leverOf({ mode, trial }: RedirectChoice): Lever | null {
  return trial ?? (mode === 'cpumap' ? null : mode);
}

export class Redirecting {
  readonly #parts: RedirectParts;
  /** CLOCK_MONOTONIC when the device was told last. */
  #toldNs: bigint | undefined;
  /** The device was told again because it did not obey, and has not obeyed since. */
  #toldAgain = false;
  #lastSeen: Obedience | null = null;

  constructor(parts: RedirectParts) {
    this.#parts = parts;
  }

  get record(): RedirectRecord {
    return this.#parts.state.record.redirect ?? unchosen;
  }

  /** As last looked at. */
  sample(): RedirectSample {
    return { mode: this.record.mode, trial: this.record.trial, device: this.#lastSeen };
  }

  status(): RedirectStatus {
    const { state, dataplane } = this.#parts;
    const queues = readQueueCounters(dataplane, 0);
    const sum = (field: 'steeredPackets' | 'missedPackets' | 'directPackets' | 'offCpuPackets'): bigint =>
      queues.reduce((total, queue) => total + queue[field], 0n);
    return {
      asked: state.config.redirect,
      ...this.record,
      device: this.#look().device,
      steeredPackets: sum('steeredPackets'),
      missedPackets: sum('missedPackets'),
      directPackets: sum('directPackets'),
      offCpuPackets: sum('offCpuPackets'),
    };
  }

  /** Settings that somebody, most often the driver, took back. */
  lost(): string[] {
    if (leverOf(this.record) !== 'follow') return [];
    return this.#withSettings((settings) => [...leverChanges(settings, 'follow', []).keys()]);
  }

  // --- looking -------------------------------------------------------------------

  #look(): Look {
    const { dataplane } = this.#parts;
    const lever = leverOf(this.record);
    const nothing = { device: null, loads: new Map<number, EntryLoad>(), rss: null };
    if (lever === null) return nothing;
    using table = new FlowTable(dataplane);
    this.#toldNs ??=
      table.clock().monotonicNs - BigInt(Math.max(Date.now() - Date.parse(this.record.since), 0)) * 1_000_000n;
    if (lever === 'follow') {
      const device = judgeObedience(followArrivals(table, this.#toldNs));
      return { ...nothing, device: this.#seen(device) };
    }
    const rss = this.#rss();
    if (rss === null) return nothing;
    const { loads, ...device } = rssArrivals(table, rss, this.#toldNs);
    return { device: this.#seen(device), loads, rss };
  }

  #seen(device: Obedience): Obedience {
    this.#lastSeen = device;
    return device;
  }

  /** What has to be done, from what flows say. Changes nothing. */
  due(): RedirectDue {
    const asked = this.#parts.state.config.redirect;
    const { trial } = this.record;
    const lever = leverOf(this.record);
    if (lever === null) return { kind: 'none' };
    const lost = this.lost();
    if (lost.length > 0) return { kind: 'tell', reason: `XPS came back on ${lost.length} transmit queues` };
    const look = this.#look();
    const { device } = look;
    if (device === null) return { kind: 'none' };
    const says = obedienceText(device);
    if (device.verdict === 'obeys') {
      this.#toldAgain = false;
      if (trial !== null) return { kind: 'begin', reason: `the device obeys: ${says}` };
    }
    if (device.verdict === 'disobeys') {
      if (lever === 'rss' && !this.#toldAgain)
        return { kind: 'tell', reason: `the device forgot its RSS table: ${says}` };
      if (asked === 'auto') return { kind: 'end', reason: `the device does not obey ${lever}: ${says}` };
    }
    return this.#canBeBetter(look) ? { kind: 'tell', reason: 'the RSS table can be better' } : { kind: 'none' };
  }

  // --- acting --------------------------------------------------------------------

  /** Does what is due, and records it. Null: nothing was changed for users. */
  act(due: RedirectDue): RedirectChange | null {
    switch (due.kind) {
      case 'begin':
        return this.#switchTo({ mode: this.record.trial ?? this.record.mode, trial: null, reason: due.reason });
      case 'end':
        return this.change({ mode: 'cpumap', trial: null, reason: due.reason });
      case 'tell':
        this.tell();
        return null;
      case 'none':
        return null;
    }
  }

  /** Another mode from now on. Settings that belonged to the one before are put back. */
  change(choice: RedirectChoice): RedirectChange {
    const { state } = this.#parts;
    const [before, after] = [leverOf(this.record), leverOf(choice)];
    if (before !== after && state.record.formerSettings !== undefined) {
      const { formerSettings } = state.record;
      // Packets first: nothing is passed where it arrived while the device changes its mind.
      this.#passDirect(false);
      this.#withSettings((settings) => restoreSettings(settings, formerSettings, 'attached'));
      state.save({ formerSettings: undefined });
    }
    const change = this.#switchTo(choice);
    if (before !== after) this.tell();
    return change;
  }

  #switchTo(choice: RedirectChoice): RedirectChange {
    const { state } = this.#parts;
    const from = this.record.mode;
    const since = leverOf(choice) === leverOf(this.record) ? this.record.since : new Date().toISOString();
    state.save({ redirect: { ...choice, since } });
    this.#passDirect(choice.mode !== 'cpumap');
    return { from, to: choice.mode, reason: choice.reason };
  }

  /** Flows go over in order, as after a change of the table. */
  #passDirect(direct: boolean): void {
    const { dataplane, tables } = this.#parts;
    const value = direct ? 1 : 0;
    if (dataplane.control.u32(0, VnicControl.offsets.direct) === value) return;
    tables.settle(SETTLE_MS);
    dataplane.control.storeU32(0, VnicControl.offsets.direct, value);
  }

  /** Tells the device, from the beginning: after an attach, a change of queues, or when it forgot. */
  tell(): void {
    const lever = leverOf(this.record);
    if (lever !== null) this.#tell(lever, this.#look());
  }

  #tell(lever: Lever, { loads, rss }: Look): void {
    const { state } = this.#parts;
    this.#withSettings((settings) => {
      const changes = leverChanges(settings, lever, rss === null ? [] : this.#plan(loads, rss));
      const formerSettings = formerOf(settings, changes, state.record.formerSettings);
      if (changes.size === 0) return;
      state.save({ formerSettings });
      writeSettings(settings, changes);
    });
    this.#toldAgain = true;
    this.#toldNs = process.hrtime.bigint();
  }

  /** After queues were lost or came back: those that are out of use receive nothing from now on. */
  followQueues(): void {
    if (leverOf(this.record) !== 'rss') return;
    const look = this.#look();
    if (this.#canBeBetter(look)) this.#tell('rss', look);
  }

  #canBeBetter({ loads, rss }: Look): boolean {
    return rss !== null && this.#plan(loads, rss).join() !== rss.table.join();
  }

  #plan(loads: ReadonlyMap<number, EntryLoad>, rss: RssSettings): number[] {
    const { state, steering } = this.#parts;
    const { queues, azs } = state.model.topology;
    return planRss({
      queues: withUsable(queues, steering.usableQueues()),
      azs,
      size: rss.table.length,
      queueLimit: this.#queueLimit(),
      loads,
      current: rss.table,
    });
  }

  #queueLimit(): number {
    return this.#ethtool((ethtool) => rssQueueLimit(ethtool));
  }

  #rss(): RssSettings | null {
    return this.#ethtool((ethtool) => ethtool.rss());
  }

  #ethtool<T>(action: (ethtool: Ethtool) => T): T {
    const { state, dataplane } = this.#parts;
    const { netns, name } = state.record.device;
    return inNetns(dataplane.native, netns, () => {
      using ethtool = new Ethtool(dataplane.native, name);
      return action(ethtool);
    });
  }

  #withSettings<T>(action: (settings: DeviceSettings) => T): T {
    using settings = new DeviceSettings(this.#parts.dataplane.native, this.#parts.state.record.device);
    return action(settings);
  }
}

/**
 * Queues that an RSS table may name. virtio_net tells the device a number of queues with the table that it determined when it was
 * probed, one for each CPU at most, whatever `ethtool -L` made of it since (virtnet_init_default_rss, max_tx_vq): a queue above
 * that wraps round.
 */
export function rssQueueLimit(ethtool: Ethtool): number {
  const channels = ethtool.channels();
  if (channels === null) return 0;
  const inUse = channels.combinedCount + channels.rxCount;
  return ethtool.driver() === 'virtio_net' ? Math.min(inUse, onlineCpus().length) : inUse;
}
