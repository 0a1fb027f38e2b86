// SPDX-License-Identifier: Apache-2.0
/** Records to write, and a folder that loses its power. */
import type { DamageReport, RecordDraft, StoredRecord } from '../../src/app/record.ts';
import { RECORD_VERSION, RecordStore } from '../../src/app/record.ts';
import type { StateFiles } from '../../src/app/records/files.ts';
import type { DeviceInput } from '../../src/config/schema.ts';
import type { DeviceId } from '../../src/loader/pins.ts';

export const eth0: DeviceId = { name: 'eth0', netns: null };

type RuleInput = NonNullable<DeviceInput['rules']>[number];

/** The set number `set`, in the canonical form. */
export function ruleInputs(set: number, count: number): RuleInput[] {
  return Array.from({ length: count }, (_, index) => ({
    id: index + 1,
    priority: 0,
    direction: 'ingress',
    match: { src: `10.${set % 256}.${(index >> 8) % 256}.${index % 256}/32` },
    action: 'drop',
    shadow: false,
  }));
}

/** The record number `n` of a device: its AZs differ from those of any other, and its rules if asked for. */
export function recordNumber(n: number, rules: RuleInput[], device = eth0): RecordDraft {
  return {
    version: RECORD_VERSION,
    device,
    mac: '02:00:00:00:00:01',
    settings: {
      mode: 'native',
      egress: 'tcx',
      queues: 4,
      queueCpus: [0, 1, 0, 1],
      maxFlows: 1024,
      maxRules: 131_072,
      hashSeed: 4_000_000_000,
      deliverMetadata: false,
      cpuQueueSize: 64,
    },
    spec: { num_queues: 4, azs: [{ name: 'zurich', queues: '0-1', weight: 1 }], rules },
    failedAzs: [{ name: 'zurich', cause: 'manual', since: new Date(n * 1000).toISOString() }],
    ruleGeneration: n,
    clsactMade: false,
    configSha256: null,
    objectSha256: '',
  };
}

/** What was asked to be kept, without what the store adds. */
export function asked(record: StoredRecord | null): RecordDraft | null {
  if (record === null) return null;
  const { changeId: _change, rulesRevision: _revision, rulesSha256: _sha256, ...draft } = record;
  return draft;
}

/** A store and the damage that it reported. */
export function openStore(files: StateFiles): { store: RecordStore; reports: DamageReport[] } {
  const reports: DamageReport[] = [];
  return { store: new RecordStore('', (report) => reports.push(report), files), reports };
}

export class PowerLoss extends Error {}

/**
 * A folder in memory. Contents are on disk when a file gets its name, as StateFiles promises; of the changes of a name
 * since the last sync() a power loss keeps any one, whatever becomes of other names: worse than any journal does.
 */
export class MemoryFiles implements StateFiles {
  readonly entries: Map<string, Buffer>;
  /** By name: what it stood for at the last sync and after each change since. */
  readonly #unsynced = new Map<string, (Buffer | undefined)[]>();
  /** Changes until the power goes. */
  changesLeft = Number.POSITIVE_INFINITY;
  /** Changes until one of them fails, as on a full disk. */
  changesUntilFull = Number.POSITIVE_INFINITY;

  constructor(entries: Iterable<readonly [string, Buffer]> = []) {
    this.entries = new Map(entries);
  }

  /** The folder after a restart. `pick(n)`: below n. */
  restarted(pick: (choices: number) => number): MemoryFiles {
    const entries = new Map(this.entries);
    for (const [name, states] of this.#unsynced) {
      const state = states[pick(states.length)];
      if (state === undefined) entries.delete(name);
      else entries.set(name, state);
    }
    return new MemoryFiles(entries);
  }

  #mayFail(): void {
    if (this.changesLeft-- <= 0) throw new PowerLoss();
    if (this.changesUntilFull-- === 0) throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
  }

  #set(name: string, contents: Buffer | undefined): void {
    this.#mayFail();
    const states = this.#unsynced.get(name) ?? [this.entries.get(name)];
    this.#unsynced.set(name, [...states, contents]);
    if (contents === undefined) this.entries.delete(name);
    else this.entries.set(name, contents);
  }

  pathOf(name: string): string {
    return `/state/${name}`;
  }

  names(): string[] {
    return [...this.entries.keys()];
  }

  read(name: string): Buffer | null {
    return this.entries.get(name) ?? null;
  }

  writeTemporary(name: string, contents: Uint8Array): string {
    this.#set(`${name}.tmp`, Buffer.from(contents));
    return `${name}.tmp`;
  }

  linkTemporary(from: string, name: string): string {
    this.#set(`${name}.tmp`, this.#existing(from));
    return `${name}.tmp`;
  }

  link(from: string, to: string): void {
    if (this.entries.has(to)) throw Object.assign(new Error('EEXIST'), { code: 'EEXIST' });
    this.#set(to, this.#existing(from));
  }

  rename(from: string, to: string): void {
    const contents = this.#existing(from);
    this.#set(to, contents);
    this.#set(from, undefined);
  }

  #existing(name: string): Buffer {
    const contents = this.entries.get(name);
    if (contents === undefined) throw Object.assign(new Error(`ENOENT: ${name}`), { code: 'ENOENT' });
    return contents;
  }

  remove(name: string): void {
    if (this.entries.has(name)) this.#set(name, undefined);
  }

  sync(): void {
    this.#mayFail();
    this.#unsynced.clear();
  }

  removeAbandoned(): void {
    for (const name of this.names()) if (name.endsWith('.tmp')) this.remove(name);
  }

  removeOwn(): void {
    this.removeAbandoned();
  }
}
