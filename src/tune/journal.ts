// SPDX-License-Identifier: Apache-2.0
/**
 * What was changed of a device's settings, by whom, and what was there before: enough to put all of it back, whenever
 * whoever changed it dies. Pure.
 *
 * Several parts of the product may hold one setting (attaching clears XPS, tuning spreads it): the last one to take hold
 * of it decides, and what was there before the first comes back with the last. So it is with a setting of the machine and
 * the devices that hold it, each in a journal of its own.
 */
import type { DeviceId } from '../loader/pins.ts';
import type { SettingName } from '../loader/settings/setting.ts';

export const holders = ['attach', 'tune', 'coalescing'] as const;
export type Holder = (typeof holders)[number];

export interface Hold {
  readonly by: Holder;
  /** Every value that the holder may give the setting, the one it gave last. Something else is somebody else's. */
  readonly values: readonly string[];
}

export interface HeldSetting {
  readonly name: SettingName;
  /** Null: there was no such setting, it came with the channels. */
  readonly before: string | null;
  /** The last one decides. */
  readonly holds: readonly Hold[];
}

export interface Journal {
  readonly device: DeviceId;
  /** Settings end with the device and with the machine: in another boot or on another device there is nothing to put back. */
  readonly bootId: string;
  readonly ifindex: number;
  readonly settings: readonly HeldSetting[];
  /** Being written: what they have now, after a crash, is nobody's word. */
  readonly unsettled: readonly SettingName[];
  /** Holders whose settings are to be put back, whatever comes. */
  readonly ending: readonly Holder[];
}

export interface WantedSetting {
  readonly name: SettingName;
  /** What is written. */
  readonly to: string;
  /** What else may be written later. */
  readonly values?: readonly string[];
}

export type Read = (name: SettingName) => string | null;

/** The hold of another device on a setting of the machine; null: none has one. */
export type OtherHold = (name: SettingName) => Pick<HeldSetting, 'before'> | null;

/** The journal with these settings held by `by` and marked as being written. */
export function withHolds(
  journal: Journal,
  by: Holder,
  wanted: readonly WantedSetting[],
  read: Read,
  other: OtherHold = () => null,
): Journal {
  const settings = new Map(journal.settings.map((held) => [held.name, held]));
  for (const { name, to, values = [] } of wanted) {
    const held = settings.get(name) ?? { name, before: (other(name) ?? { before: read(name) }).before, holds: [] };
    const others = held.holds.filter((hold) => hold.by !== by);
    settings.set(name, {
      ...held,
      holds: [...others, { by, values: [...values.filter((value) => value !== to), to] }],
    });
  }
  const unsettled = [...new Set([...journal.unsettled, ...wanted.map(({ name }) => name)])];
  return { ...journal, settings: [...settings.values()], unsettled };
}

/** A setting that somebody else has changed meanwhile. */
export interface ForeignSetting {
  readonly name: SettingName;
  /** What it was set to here. */
  readonly expected: string;
  readonly now: string;
  readonly before: string | null;
}

/** Settings that have a value that nobody gave them here. */
export function foreignSettings(journal: Journal, read: Read): ForeignSetting[] {
  return journal.settings.flatMap((held) => {
    const now = read(held.name);
    const last = held.holds.at(-1);
    if (now === null || last === undefined || journal.unsettled.includes(held.name)) return [];
    if (now === held.before || held.holds.some(({ values }) => values.includes(now))) return [];
    return [{ name: held.name, expected: last.values.at(-1)!, now, before: held.before }];
  });
}

export interface Release {
  /** What is to be written, in order. */
  readonly restore: readonly { readonly name: SettingName; readonly to: string }[];
  /** The journal when that is done. */
  readonly journal: Journal;
  /** Left as it is. */
  readonly foreign: readonly ForeignSetting[];
}

/**
 * Lets go of what these holders hold. What somebody else changed is left and forgotten, with `force` it is overwritten.
 * What another device holds is left to it.
 */
export function release(
  journal: Journal,
  by: readonly Holder[],
  read: Read,
  force: boolean,
  other: OtherHold = () => null,
): Release {
  const concerned = journal.settings.filter(({ holds }) => holds.some((hold) => by.includes(hold.by)));
  const ours = new Set(concerned.map(({ name }) => name));
  const foreign = force ? [] : foreignSettings(journal, read).filter(({ name }) => ours.has(name));
  const isForeign = new Set(foreign.map(({ name }) => name));
  const restore: { name: SettingName; to: string }[] = [];
  const settings: HeldSetting[] = [];
  for (const held of journal.settings) {
    const holds = held.holds.filter((hold) => !by.includes(hold.by));
    if (holds.length > 0) settings.push({ ...held, holds });
    if (!ours.has(held.name) || isForeign.has(held.name)) continue;
    if (holds.length === 0 && other(held.name) !== null) continue;
    const to = holds.at(-1)?.values.at(-1) ?? held.before;
    if (to !== null) restore.push({ name: held.name, to });
  }
  const unsettled = journal.unsettled.filter((name) => !ours.has(name));
  const ending = journal.ending.filter((holder) => !by.includes(holder));
  return { restore: inOrder(restore, read), journal: { ...journal, settings, unsettled, ending }, foreign };
}

/**
 * Channels first, for the driver sets the rest anew with them; but the RSS table before them where they become fewer: it
 * must not name a queue that goes (net/ethtool/channels.c).
 */
export function inOrder<Setting extends { readonly name: SettingName; readonly to: string }>(
  settings: readonly Setting[],
  read: Read,
): Setting[] {
  const channels = settings.find(({ name }) => name === 'channels/combined');
  if (channels === undefined) return [...settings];
  const isFewer = Number(channels.to) < Number(read('channels/combined') ?? 0);
  const rank = ({ name }: Setting): number => {
    if (name === 'channels/combined') return 1;
    return name === 'rss/table' && isFewer ? 0 : 2;
  };
  return settings.toSorted((a, b) => rank(a) - rank(b));
}
