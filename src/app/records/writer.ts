// SPDX-License-Identifier: Apache-2.0
/** Puts records and their rules on disk, in an order in which a power loss at any moment leaves a whole record. */
import type { StateFiles } from './files.ts';
import { formatRules, sealText } from './format.ts';
import { checkHeader, RECORD_VERSION, type RecordDraft, type RecordHeader, type StoredRecord } from './model.ts';
import { type RecordNames, rulesFile } from './names.ts';
import { EMPTY_SHA256, type RecordReader } from './reader.ts';

export interface Counters {
  changeId: number;
  rulesRevision: number;
}

export interface WriteOptions {
  counters: Counters;
  /** Hashes of rules whose file is known to be sound; other rules are written even if there is a file of that name. */
  soundRules: readonly string[];
  /** Whether what is in force becomes the previous record. */
  keepPrevious: boolean;
}

const HASH = /[0-9a-f]{64}/g;

export class RecordWriter {
  readonly #files: StateFiles;
  readonly #reader: RecordReader;

  constructor(files: StateFiles, reader: RecordReader) {
    this.#files = files;
    this.#reader = reader;
  }

  /** Replaces the record in force or the staged one. Throws before anything is replaced, or not at all. */
  write(names: RecordNames, target: string, record: RecordDraft, options: WriteOptions): StoredRecord {
    const { rules, ...spec } = record.spec;
    const reference = this.#reader.reference(rules);
    const kept: StoredRecord = {
      ...record,
      changeId: options.counters.changeId,
      rulesRevision: Math.max(options.counters.rulesRevision, record.rulesRevision ?? 0),
      version: RECORD_VERSION,
      configSha256: record.configSha256 ?? null,
      objectSha256: record.objectSha256 ?? '',
      rulesSha256: reference?.sha256 ?? EMPTY_SHA256,
    };
    const { rulesSha256: _, ...fields } = kept;
    const header: RecordHeader = { ...fields, spec, rules: reference };
    // What is refused when it is read back must not be written.
    checkHeader(header);
    if (rules !== undefined && rules.length > 0) {
      this.#writeRules(names.rules(kept.rulesSha256), rules, options.soundRules.includes(kept.rulesSha256));
    }
    const temporary = this.#files.writeTemporary(target, sealText(header));
    if (target === names.current) {
      this.putInForce(names, temporary, options.keepPrevious);
    } else {
      this.#files.rename(temporary, target);
      this.#files.sync();
    }
    this.collectRules(names.current);
    return kept;
  }

  #writeRules(file: string, rules: Parameters<typeof formatRules>[0], isSound: boolean): void {
    if (isSound && this.#files.names().includes(file)) return;
    this.#files.rename(this.#files.writeTemporary(file, formatRules(rules)), file);
    // Its name is on disk before a record names it.
    this.#files.sync();
  }

  /** The commit. */
  putInForce(names: RecordNames, file: string, keepPrevious: boolean): void {
    if (keepPrevious) {
      this.#files.rename(this.#files.linkTemporary(names.current, names.previous), names.previous);
    }
    this.#files.rename(file, names.current);
    this.#files.sync();
  }

  /**
   * Removes rules that no file of the device names: neither a record nor a damaged one that was set aside.
   * What cannot be removed now is removed another time.
   * @param current name of the device's record
   */
  collectRules(current: string): void {
    attempt(() => {
      const there = this.#files.names();
      const rules = there.filter((name) => rulesFile(name)?.current === current);
      if (rules.length === 0) return;
      const named = new Set<string>();
      for (const name of there) {
        if (!name.startsWith(current)) continue;
        for (const [hash] of (this.#files.read(name)?.toString('latin1') ?? '').matchAll(HASH)) named.add(hash);
      }
      for (const name of rules) {
        if (!named.has(rulesFile(name)!.sha256)) this.#files.remove(name);
      }
    });
  }

  /** Clears away what killed writers left. */
  sweep(): void {
    attempt(() => {
      this.#files.removeAbandoned();
      for (const current of new Set(this.#files.names().map((name) => rulesFile(name)?.current))) {
        if (current !== undefined) this.collectRules(current);
      }
    });
  }

  /** Clears away what a write that failed left. */
  cleanUp(names: RecordNames): void {
    attempt(() => this.#files.removeOwn());
    this.collectRules(names.current);
  }

  /** Gives a file a second name, under which it stays. Null: there is no such file. */
  keepAside(file: string): string | null {
    if (!this.#files.names().includes(file)) return null;
    for (let time = Date.now(); ; time++) {
      const aside = `${file}.damaged-${time}`;
      try {
        this.#files.link(file, aside);
        return aside;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
    }
  }
}

/** For work whose failure changes nothing of the result: the error that matters is another one. */
export function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}
