// SPDX-License-Identifier: Apache-2.0
/** Reads records, and knows a damaged one from a sound one. Changes nothing. */
import type { DeviceInput } from '../../config/schema.ts';
import { VnicError } from '../../errors.ts';
import { type DeviceId, deviceText } from '../../loader/pins.ts';
import type { StateFiles } from './files.ts';
import { formatRules, isSealed, parseRules, sha256, unsealText } from './format.ts';
import {
  checkHeader,
  checkSpec,
  type DeviceRecord,
  migrateVersion1,
  RECORD_VERSION,
  type RecordHeader,
  type RulesReference,
  type StoredRecord,
} from './model.ts';
import { RecordNames } from './names.ts';

export type Rules = DeviceInput['rules'];

/** A file that is not what was written. */
export class Damage extends Error {
  /** Name of the file, which is a record or the rules that a record names. */
  readonly file: string;

  constructor(file: string, reason: string, cause?: unknown) {
    super(reason, { cause });
    this.name = 'Damage';
    this.file = file;
  }
}

/** Of no rules at all. */
export const EMPTY_SHA256 = sha256(Buffer.alloc(0));

/** What a record counts and which rules it names. */
export interface RecordFacts {
  changeId: number;
  rulesRevision: number;
  sha256: string;
}

/** A record without what users wrote. */
export type RecordFields = Omit<StoredRecord, 'spec'>;

/** A record without its rules, or a whole one of version 1. */
type Understood = RecordHeader | DeviceRecord;

export class RecordReader {
  readonly #files: StateFiles;
  /** Of lists of rules that were read or written: a list is never changed in place. */
  readonly #references = new WeakMap<object, RulesReference>();

  constructor(files: StateFiles) {
    this.#files = files;
  }

  /** The record with its rules, all of it checked. Null: there is no such file. Throws Damage, `abi_mismatch`. */
  read(device: DeviceId, file: string): StoredRecord | null {
    const bytes = this.#bytes(file);
    if (bytes === null) return null;
    const header = this.#understand(device, file, bytes);
    const record = 'rules' in header ? this.#withRules(device, header) : this.#withHash(header);
    damagedUnless(file, () => checkSpec(record));
    return record;
  }

  /** All but AZs and rules; the rules are not looked at. Null: there is no such file. Throws Damage, `abi_mismatch`. */
  peek(device: DeviceId, file: string): RecordFields | null {
    const bytes = this.#bytes(file);
    if (bytes === null) return null;
    const header = this.#understand(device, file, bytes);
    const rulesSha256 = this.#factsOf(header).sha256;
    const { spec: _, ...fields } = header;
    if (!('rules' in fields)) return { ...fields, rulesSha256 };
    const { rules: __, ...others } = fields;
    return { ...others, rulesSha256 };
  }

  /** The rules are not looked at. Null: there is no such file. Throws Damage, `abi_mismatch`. */
  facts(device: DeviceId, file: string): RecordFacts | null {
    const bytes = this.#bytes(file);
    return bytes === null ? null : this.#factsOf(this.#understand(device, file, bytes));
  }

  /** As facts(), but throws Damage also where the rules are not those that were written. */
  verify(device: DeviceId, file: string): RecordFacts | null {
    const bytes = this.#bytes(file);
    if (bytes === null) return null;
    const header = this.#understand(device, file, bytes);
    if ('rules' in header && header.rules !== null) this.#rulesText(new RecordNames(device), header.rules);
    return this.#factsOf(header);
  }

  #factsOf(header: Understood): RecordFacts {
    const { changeId, rulesRevision } = header;
    const reference = 'rules' in header ? header.rules : this.reference(header.spec.rules);
    return { changeId, rulesRevision, sha256: reference?.sha256 ?? EMPTY_SHA256 };
  }

  /** Names the rules, making them into text only where that was not done before. */
  reference(rules: Rules): RulesReference | null {
    if (rules === undefined) return null;
    const known = this.#references.get(rules);
    if (known !== undefined) return known;
    const reference = { sha256: sha256(formatRules(rules)), count: rules.length };
    this.#references.set(rules, reference);
    return reference;
  }

  /** A file that cannot be read from the disk is damaged, one that may not be read is not. */
  #bytes(file: string): Buffer | null {
    try {
      return this.#files.read(file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EIO') throw new Damage(file, 'the disk cannot read it', error);
      throw error;
    }
  }

  #understand(device: DeviceId, file: string, bytes: Buffer): Understood {
    const header = damagedUnless(file, () => {
      if (!isSealed(bytes)) return migrateVersion1(JSON.parse(bytes.toString('utf8')));
      const value = unsealText(bytes);
      refuseNewer(this.#files.pathOf(file), value);
      return checkHeader(value);
    });
    if (deviceText(header.device) !== deviceText(device)) {
      throw new Damage(file, `it is the record of ${deviceText(header.device)}`);
    }
    return header;
  }

  #withRules(device: DeviceId, { rules: reference, spec, ...header }: RecordHeader): StoredRecord {
    const fields = { ...header, rulesSha256: reference?.sha256 ?? EMPTY_SHA256 };
    if (reference === null) return { ...fields, spec };
    return { ...fields, spec: { ...spec, rules: this.#readRules(new RecordNames(device), reference) } };
  }

  #withHash(record: DeviceRecord): StoredRecord {
    return { ...record, rulesSha256: this.reference(record.spec.rules)?.sha256 ?? EMPTY_SHA256 };
  }

  #rulesText(names: RecordNames, reference: RulesReference): Buffer {
    const file = names.rules(reference.sha256);
    // Without rules there is no file for them.
    const bytes = reference.count === 0 ? Buffer.alloc(0) : this.#bytes(file);
    if (bytes === null) throw new Damage(file, 'the rules of the record are missing');
    if (sha256(bytes) !== reference.sha256) throw new Damage(file, 'its checksum is wrong');
    return bytes;
  }

  #readRules(names: RecordNames, reference: RulesReference): NonNullable<Rules> {
    const file = names.rules(reference.sha256);
    const bytes = this.#rulesText(names, reference);
    const rules = damagedUnless(file, () => parseRules(bytes));
    if (rules.length !== reference.count) {
      throw new Damage(file, `it has ${rules.length} rules, its record says ${reference.count}`);
    }
    this.#references.set(rules, reference);
    return rules;
  }
}

function damagedUnless<T>(file: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof VnicError && error.code === 'abi_mismatch') throw error;
    throw new Damage(file, error instanceof Error ? error.message : String(error), error);
  }
}

/** Sound, but of a later vnicctl. */
function refuseNewer(file: string, value: unknown): void {
  const version = (value as { version?: unknown } | null)?.version;
  if (typeof version !== 'number' || version <= RECORD_VERSION) return;
  throw new VnicError(
    'abi_mismatch',
    `${file} is a record of version ${version}; this vnicctl knows ${RECORD_VERSION}.`,
    {
      remedy: 'Use the vnicctl that wrote it, or detach with that one and attach with this one.',
    },
  );
}
