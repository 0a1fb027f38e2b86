// SPDX-License-Identifier: Apache-2.0
/**
 * Records: what was asked of each device, kept on disk. A write that returned survives the death of the process and of
 * the machine; a file that is not what was written is noticed and set aside, and the record before it is used.
 *
 * Files of a device: <device>.json (in force), .json.previous (before it), .json.staged (of an attach under way),
 * .rules-<sha256>.ndjson (rules that these name). The rename to <device>.json is the commit. Rules are written only where
 * they change. Whoever calls anything but devices() and damaged() holds the machine's lock.
 */
import path from 'node:path';
import { VnicError } from '../errors.ts';
import { type DeviceId, deviceText } from '../loader/pins.ts';
import { DiskFiles, type StateFiles } from './records/files.ts';
import type { RecordDraft, StoredRecord } from './records/model.ts';
import { RecordNames, recordDevice } from './records/names.ts';
import { Damage, EMPTY_SHA256, type RecordFields, RecordReader } from './records/reader.ts';
import { attempt, type Counters, RecordWriter, type WriteOptions } from './records/writer.ts';

export {
  type DataplaneSettings,
  type DeviceRecord,
  type EgressHook,
  type FailedAz,
  RECORD_VERSION,
  type RecordDraft,
  type RedirectRecord,
  recordConfig,
  type StoredRecord,
} from './records/model.ts';
export type { RecordFields } from './records/reader.ts';

export interface DamageReport {
  device: DeviceId;
  /** Path of the damaged or missing file. */
  file: string;
  /** Where it is kept. Null: it was missing, or it is still in its place because the folder cannot be written. */
  keptAs: string | null;
  /** The record that is used instead; `written`: the one that was being written at that moment. */
  used: 'previous' | 'written' | 'none';
  /** What is wrong with the file. */
  reason: string;
}

const noCounters: Counters = { changeId: 0, rulesRevision: 0 };

export class RecordStore {
  readonly #files: StateFiles;
  readonly #reader: RecordReader;
  readonly #writer: RecordWriter;
  readonly #onDamage: (report: DamageReport) => void;
  /** Highest seen of each device, by the name of its record. */
  readonly #seen = new Map<string, Counters>();
  #isSwept = false;

  /**
   * @param onDamage told of each damaged file that is met
   * @param files other than those of the folder `devices` in the state folder
   */
  constructor(
    stateFolder: string,
    onDamage: (report: DamageReport) => void = () => undefined,
    files: StateFiles = new DiskFiles(path.join(stateFolder, 'devices')),
  ) {
    this.#files = files;
    this.#reader = new RecordReader(this.#files);
    this.#writer = new RecordWriter(this.#files, this.#reader);
    this.#onDamage = onDamage;
  }

  /**
   * The record in force; null: there is none. Where it is damaged the one before it is put in force and reported.
   * Throws `state_damaged` when that cannot be read either; then both are set aside, never deleted. Throws
   * `abi_mismatch` for a record of a later version.
   */
  read(device: DeviceId): StoredRecord | null {
    const names = new RecordNames(device);
    const current = this.#tryRead(device, names.current);
    if (current !== null && !(current instanceof Damage)) {
      this.#note(names, current);
      return current;
    }
    const previous = this.#tryRead(device, names.previous);
    if (current === null && previous === null) return null;
    const damage = current ?? new Damage(names.current, 'it is missing');
    if (previous !== null && !(previous instanceof Damage)) return this.#restore(names, damage, previous);
    const damages = previous === null ? [damage] : [damage, previous];
    throw this.#giveUp(device, damages, [names.current, names.previous]);
  }

  /** As read(), but quick for large rule sets: gives no AZs and rules, and does not look at the rules. */
  peek(device: DeviceId): RecordFields | null {
    const fields = this.#tryFacts(() => this.#reader.peek(device, new RecordNames(device).current));
    return fields === null || fields instanceof Damage ? this.read(device) : fields;
  }

  /** Puts the record in force. Gives it as it is kept, counters included. Throws `failed`; the old one stays then. */
  write(record: RecordDraft): StoredRecord {
    const names = new RecordNames(record.device);
    return this.#changing(names, record.device, () => {
      const before = this.#before(names, record.device, this.#hashOf(record));
      this.#keepReplaced(names, record.device, before.damage);
      const stored = this.#writer.write(names, names.current, record, before);
      this.#note(names, stored);
      return stored;
    });
  }

  /**
   * Keeps the record of an attach that is not done yet beside the one in force; `promote` puts it in force.
   * A killed attach so leaves the rules and AZs of the device as they were.
   */
  stage(record: RecordDraft): StoredRecord {
    const names = new RecordNames(record.device);
    return this.#changing(names, record.device, () =>
      this.#writer.write(names, names.staged, record, this.#before(names, record.device, this.#hashOf(record))),
    );
  }

  /** Puts the staged record in force, if there is one. Throws `state_damaged` if it cannot be read. */
  promote(device: DeviceId): void {
    const names = new RecordNames(device);
    if (!this.#files.names().includes(names.staged)) return;
    this.#changing(names, device, () => {
      const staged = this.#tryFacts(() => this.#reader.verify(device, names.staged));
      if (staged instanceof Damage) throw this.#giveUp(device, [staged], [names.staged]);
      if (staged === null) return;
      const { damage, keepPrevious } = this.#before(names, device, staged.sha256);
      this.#keepReplaced(names, device, damage);
      this.#writer.putInForce(names, names.staged, keepPrevious);
      this.#writer.collectRules(names.current);
      this.#note(names, staged);
    });
  }

  /** The staged record, or null. Without any complaint: what cannot be read was not staged. */
  readStaged(device: DeviceId): StoredRecord | null {
    try {
      return this.#reader.read(device, new RecordNames(device).staged);
    } catch {
      return null;
    }
  }

  dropStaged(device: DeviceId): void {
    const names = new RecordNames(device);
    if (!this.#files.names().includes(names.staged)) return;
    this.#changing(names, device, () => {
      this.#files.remove(names.staged);
      this.#files.sync();
      this.#writer.collectRules(names.current);
    });
  }

  /** Removes the record in force and the one before it. Files that were set aside stay. */
  remove(device: DeviceId): void {
    const names = new RecordNames(device);
    const there = this.#files.names();
    if (!there.includes(names.current) && !there.includes(names.previous)) return;
    this.#changing(names, device, () => {
      // A previous record without a current one means that the current one was lost: so it goes first.
      this.#files.remove(names.previous);
      this.#files.sync();
      this.#files.remove(names.current);
      this.#files.sync();
      this.#writer.collectRules(names.current);
    });
  }

  devices(): DeviceId[] {
    const devices = new Map<string, DeviceId>();
    for (const name of this.#files.names()) {
      const device = recordDevice(name);
      if (device !== null) devices.set(deviceText(device), device);
    }
    return [...devices.values()];
  }

  /** Paths of the device's damaged files that were set aside, by name. */
  damaged(device: DeviceId): string[] {
    const names = new RecordNames(device);
    return this.#files
      .names()
      .filter((name) => names.keptAside(name))
      .sort()
      .map((name) => this.#files.pathOf(name));
  }

  #tryRead(device: DeviceId, file: string): StoredRecord | Damage | null {
    try {
      return this.#reader.read(device, file);
    } catch (error) {
      if (error instanceof Damage) return error;
      if (error instanceof VnicError) throw error;
      const { message } = error as Error;
      throw new VnicError('failed', `The record of ${deviceText(device)} could not be read: ${message}`, {
        remedy: `Make ${this.#files.pathOf(file)} readable.`,
        cause: error,
      });
    }
  }

  /** What a write has to know of what is there, and the counters that it gives its record. */
  #before(names: RecordNames, device: DeviceId, sha256: string): WriteOptions & { damage: Damage | null } {
    const seen = this.#seen.get(names.current) ?? noCounters;
    const current = this.#tryFacts(() => this.#reader.facts(device, names.current));
    const staged = this.#tryFacts(() => this.#reader.facts(device, names.staged));
    const damage = current instanceof Damage ? current : null;
    const inForce = current instanceof Damage ? null : current;
    const other = staged instanceof Damage ? null : staged;
    return {
      damage,
      keepPrevious: inForce !== null,
      soundRules: [inForce, other].flatMap((header) => (header === null ? [] : [header.sha256])),
      counters: {
        changeId: Math.max(inForce?.changeId ?? 0, other?.changeId ?? 0, seen.changeId) + 1,
        rulesRevision:
          inForce?.sha256 === sha256
            ? inForce.rulesRevision
            : Math.max(inForce?.rulesRevision ?? 0, seen.rulesRevision) + 1,
      },
    };
  }

  #hashOf({ spec }: RecordDraft): string {
    return this.#reader.reference(spec.rules)?.sha256 ?? EMPTY_SHA256;
  }

  #tryFacts<Facts>(read: () => Facts): Facts | Damage {
    try {
      return read();
    } catch (error) {
      if (error instanceof Damage) return error;
      throw error;
    }
  }

  /** Puts the previous record in force again. A folder that cannot be written does not keep it from being used. */
  #restore(names: RecordNames, damage: Damage, previous: StoredRecord): StoredRecord {
    const kept = new Map<string, string | null>();
    const seen = this.#seen.get(names.current) ?? noCounters;
    let restored = previous;
    try {
      for (const file of new Set([damage.file, names.current])) kept.set(file, this.#writer.keepAside(file));
      this.#files.sync();
      restored = this.#writer.write(names, names.current, previous, {
        // The record that was lost had the numbers between: who has seen it must see a change.
        counters: {
          changeId: Math.max(previous.changeId + 2, seen.changeId + 1),
          rulesRevision: Math.max(previous.rulesRevision + 2, seen.rulesRevision + 1),
        },
        soundRules: [previous.rulesSha256],
        keepPrevious: false,
      });
      if (damage.file !== names.current && kept.get(damage.file) != null) {
        attempt(() => this.#files.remove(damage.file));
      }
    } catch {
      attempt(() => this.#files.removeOwn());
      // What stays in its place is not kept twice: the next to read it comes here again.
      for (const [file, aside] of kept) {
        if (aside === null || attempt(() => this.#isSame(file, aside)) !== true) continue;
        attempt(() => this.#files.remove(aside));
        kept.set(file, null);
      }
    }
    this.#note(names, restored);
    this.#report(previous.device, damage, kept, 'previous');
    return restored;
  }

  /** A damaged record that a write replaces. */
  #keepReplaced(names: RecordNames, device: DeviceId, damage: Damage | null): void {
    if (damage === null) return;
    const kept = new Map([[names.current, this.#writer.keepAside(names.current)]]);
    this.#files.sync();
    this.#report(device, damage, kept, 'written');
  }

  #isSame(file: string, aside: string): boolean {
    const [one, other] = [this.#files.read(file), this.#files.read(aside)];
    return one !== null && other !== null && one.equals(other);
  }

  /** Sets aside what cannot be used and makes the error that says so. */
  #giveUp(device: DeviceId, damages: readonly Damage[], records: readonly string[]): VnicError {
    const kept = new Map<string, string | null>();
    for (const file of new Set([...damages.map((damage) => damage.file), ...records])) {
      kept.set(file, attempt(() => this.#writer.keepAside(file)) ?? null);
    }
    attempt(() => {
      this.#files.sync();
      for (const [file, aside] of kept) if (aside !== null) this.#files.remove(file);
      this.#files.sync();
    });
    for (const damage of damages) this.#report(device, damage, kept, 'none');
    const [first] = damages;
    const file = this.#files.pathOf(first!.file);
    const aside = kept.get(first!.file) ?? null;
    const fate = aside === null ? `see ${file}` : `it was moved to ${this.#files.pathOf(aside)}`;
    return new VnicError(
      'state_damaged',
      `The record of ${deviceText(device)} cannot be read (${first!.message}); ${fate}.`,
      {
        remedy: `Detach and attach again, or put a sound copy back as ${file}.`,
        details: { keptAside: [...kept.values()].flatMap((name) => (name === null ? [] : [this.#files.pathOf(name)])) },
        cause: first,
      },
    );
  }

  #report(
    device: DeviceId,
    damage: Damage,
    kept: ReadonlyMap<string, string | null>,
    used: DamageReport['used'],
  ): void {
    const aside = kept.get(damage.file) ?? null;
    this.#onDamage({
      device,
      file: this.#files.pathOf(damage.file),
      keptAs: aside === null ? null : this.#files.pathOf(aside),
      used,
      reason: damage.message,
    });
  }

  #changing<T>(names: RecordNames, device: DeviceId, action: () => T): T {
    if (!this.#isSwept) this.#writer.sweep();
    this.#isSwept = true;
    try {
      return action();
    } catch (error) {
      this.#writer.cleanUp(names);
      if (error instanceof VnicError) throw error;
      const file = this.#files.pathOf(names.current);
      throw new VnicError(
        'failed',
        `The record of ${deviceText(device)} could not be written to ${file}: ${(error as Error).message}`,
        {
          remedy: 'Free space in its file system and make it writable, or set VNIC_STATE_DIR to another folder.',
          cause: error,
        },
      );
    }
  }

  #note(names: RecordNames, { changeId, rulesRevision }: Counters): void {
    const seen = this.#seen.get(names.current) ?? noCounters;
    this.#seen.set(names.current, {
      changeId: Math.max(changeId, seen.changeId),
      rulesRevision: Math.max(rulesRevision, seen.rulesRevision),
    });
  }
}
