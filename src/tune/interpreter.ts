// SPDX-License-Identifier: Apache-2.0
/**
 * Sets settings and puts them back. Before the first write the journal is on disk, so that a process that dies anywhere
 * leaves what is needed to put everything back. What fails is undone in reverse.
 */
import { VnicError } from '../errors.ts';
import type { SettingName, SettingsPort } from '../loader/settings/setting.ts';
import {
  type ForeignSetting,
  type Holder,
  inOrder,
  type Journal,
  type OtherHold,
  release,
  type WantedSetting,
  withHolds,
} from './journal.ts';

/** Where the journal is kept. Returns when it is on disk. */
export interface JournalPort {
  /** A journal that holds nothing is removed. */
  write(journal: Journal): void;
}

export interface TunePorts {
  readonly settings: SettingsPort;
  readonly journal: JournalPort;
  /** Absent: there is no other device. */
  readonly other?: OtherHold;
}

/** Takes hold of settings. Throws what a write throws, after undoing the others. Gives the journal as it is kept. */
export function holdSettings(
  { settings, journal: port, other }: TunePorts,
  journal: Journal,
  by: Holder,
  wanted: readonly WantedSetting[],
): Journal {
  if (wanted.length === 0) return journal;
  const read = (name: SettingName): string | null => settings.read(name);
  const earlier = new Map(wanted.map(({ name }) => [name, read(name)]));
  const writing = withHolds(journal, by, wanted, read, other);
  port.write(writing);
  try {
    for (const { name, to } of inOrder(wanted, read)) set(settings, name, to);
  } catch (error) {
    undo({ settings, journal: port }, journal, earlier, error);
    throw error;
  }
  const held = { ...writing, unsettled: [] };
  port.write(held);
  return held;
}

/** What the kernel took silently as something else is an error too. */
function set(settings: SettingsPort, name: SettingName, to: string): void {
  settings.write(name, to);
  const now = settings.read(name);
  if (now === to) return;
  throw new VnicError('kernel_refused', `${name} was set to ${valueText(to)}, but is ${valueText(now)}.`, {
    remedy: 'Something else may be setting it at the same time, or the device cannot do it.',
    details: { setting: name },
  });
}

function valueText(value: string | null): string {
  if (value === null) return 'not there any more';
  return value === '' ? 'none' : value;
}

/** All of them: with the channels the driver sets others too. */
function undo(
  { settings, journal: port }: TunePorts,
  journal: Journal,
  earlier: ReadonlyMap<SettingName, string | null>,
  cause: unknown,
): void {
  const values = [...earlier].reverse().flatMap(([name, to]) => (to === null ? [] : [{ name, to }]));
  const failures: string[] = [];
  for (const { name, to } of inOrder(values, (setting) => settings.read(setting))) {
    try {
      if (settings.read(name) !== to) set(settings, name, to);
    } catch (error) {
      failures.push((error as Error).message);
    }
  }
  if (failures.length === 0) {
    port.write(journal);
    return;
  }
  // The journal stays as it is: it has what was there before.
  throw new VnicError('failed', `${(cause as Error).message} Undoing the rest failed too: ${failures.join(' ')}`, {
    remedy: 'Try to put everything back: vnicctl tune DEV --restore',
    cause,
  });
}

export interface Restored {
  /** What was written. */
  readonly restored: readonly { readonly name: SettingName; readonly from: string; readonly to: string }[];
  /** Left as they are: somebody else has changed them. */
  readonly foreign: readonly ForeignSetting[];
  /** Could not be written; they stay in the journal. */
  readonly failed: readonly { readonly name: SettingName; readonly to: string; readonly message: string }[];
  readonly journal: Journal;
}

/**
 * Puts back what these holders hold. Settings that are gone, with their queue or the device, need nothing. What cannot be
 * written keeps nothing else from being put back.
 */
export function restoreSettings(
  { settings, journal: port, other }: TunePorts,
  journal: Journal,
  by: readonly Holder[],
  force: boolean,
): Restored {
  const plan = release(journal, by, (name) => settings.read(name), force, other);
  const changed = plan.restore.filter(({ name, to }) => settings.read(name) !== to);
  // Killed from here on, what it was about is finished by whoever comes next.
  if (changed.length > 0) {
    const ending = [...new Set([...journal.ending, ...by])];
    const unsettled = [...new Set([...journal.unsettled, ...plan.restore.map(({ name }) => name)])];
    const left = new Set(plan.foreign.map(({ name }) => name));
    port.write({ ...journal, settings: journal.settings.filter(({ name }) => !left.has(name)), ending, unsettled });
  }
  const restored: { name: SettingName; from: string; to: string }[] = [];
  const failed: { name: SettingName; to: string; message: string }[] = [];
  for (const { name, to } of plan.restore) {
    const from = settings.read(name);
    if (from === null || from === to) continue;
    try {
      set(settings, name, to);
      restored.push({ name, from, to });
    } catch (error) {
      failed.push({ name, to, message: (error as Error).message });
    }
  }
  const failing = new Set(failed.map(({ name }) => name));
  const kept = journal.settings.filter(({ name }) => failing.has(name));
  const settled = plan.journal.settings.filter(({ name }) => !failing.has(name));
  const after = { ...plan.journal, settings: [...settled, ...kept], unsettled: [...failing] };
  port.write(after);
  return { restored, foreign: plan.foreign, failed, journal: after };
}
