// SPDX-License-Identifier: Apache-2.0
/**
 * Journals of changed settings on disk, a file for each device, in the folder `settings` of the state folder. A write that
 * returned survives the death of the process and of the machine. Whoever writes holds the machine's lock.
 */
import path from 'node:path';
import { z } from 'zod';
import { VnicError } from '../../errors.ts';
import { type DeviceId, deviceText } from '../../loader/pins.ts';
import { isSettingName, type SettingName } from '../../loader/settings/setting.ts';
import type { JournalPort } from '../../tune/interpreter.ts';
import { holders, type Journal } from '../../tune/journal.ts';
import { DiskFiles, type StateFiles } from '../records/files.ts';
import { sealText, unsealText } from '../records/format.ts';
import { RecordNames, recordDevice } from '../records/names.ts';

const settingName = z.custom<SettingName>((name) => typeof name === 'string' && isSettingName(name), 'is no setting');
const holder = z.enum(holders);

const journalSchema = z.strictObject({
  device: z.strictObject({ name: z.string(), netns: z.string().nullable() }),
  bootId: z.string(),
  ifindex: z.int(),
  settings: z.array(
    z.strictObject({
      name: settingName,
      before: z.string().nullable(),
      holds: z.array(z.strictObject({ by: holder, values: z.array(z.string()).min(1) })),
    }),
  ),
  unsettled: z.array(settingName),
  ending: z.array(holder),
}) satisfies z.ZodType<Journal>;

export class JournalStore implements JournalPort {
  readonly #files: StateFiles;
  #isSwept = false;

  constructor(stateFolder: string, files: StateFiles = new DiskFiles(path.join(stateFolder, 'settings'))) {
    this.#files = files;
  }

  /** Null: nothing was changed. Throws `state_damaged` after setting the file aside. */
  read(device: DeviceId): Journal | null {
    const name = new RecordNames(device).current;
    const bytes = this.#files.read(name);
    if (bytes === null) return null;
    try {
      return journalSchema.parse(unsealText(bytes));
    } catch (cause) {
      throw this.#setAside(device, name, cause);
    }
  }

  #setAside(device: DeviceId, name: string, cause: unknown): VnicError {
    const aside = `${name}.damaged-${Date.now()}`;
    this.#files.rename(name, aside);
    this.#files.sync();
    const message = `What was changed of the settings of ${deviceText(device)} cannot be read; it was moved to ${this.#files.pathOf(aside)}.`;
    return new VnicError('state_damaged', message, {
      remedy:
        'Settings stay as they are until the device or the machine is started anew; ask again to go on without it.',
      details: { keptAside: [this.#files.pathOf(aside)] },
      cause,
    });
  }

  write(journal: Journal): void {
    const name = new RecordNames(journal.device).current;
    try {
      if (!this.#isSwept) this.#files.removeAbandoned();
      this.#isSwept = true;
      if (journal.settings.length > 0) {
        this.#files.rename(this.#files.writeTemporary(name, sealText(journal)), name);
      } else if (this.#files.names().includes(name)) {
        this.#files.remove(name);
      } else {
        return;
      }
      this.#files.sync();
    } catch (cause) {
      const file = this.#files.pathOf(name);
      throw new VnicError('failed', `What is changed could not be written to ${file}: ${(cause as Error).message}`, {
        remedy: 'Free space in its file system and make it writable, or set VNIC_STATE_DIR to another folder.',
        cause,
      });
    }
  }

  /** Devices whose settings were changed. */
  devices(): DeviceId[] {
    return this.#files.names().flatMap((name) => recordDevice(name) ?? []);
  }
}
