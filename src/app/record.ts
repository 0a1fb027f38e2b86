// SPDX-License-Identifier: Apache-2.0
/**
 * Records: what was asked of each device, kept on disk. A record is replaced whole: temporary file, fsync, rename, fsync of
 * the folder, so that a reader sees the old one or the new one, also after a power loss.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { parseDevice } from '../config/device.ts';
import type { DeviceInput } from '../config/schema.ts';
import { VnicError } from '../errors.ts';
import { type DeviceId, deviceText } from '../loader/pins.ts';

export const RECORD_VERSION = 1;

export type EgressHook = 'tcx' | 'clsact' | 'off';

/** How the dataplane was built; changing any of it takes a detach and an attach. */
export interface DataplaneSettings {
  mode: 'native' | 'generic';
  egress: EgressHook;
  queues: number;
  /** Queue's CPU, by queue. */
  queueCpus: number[];
  maxFlows: number;
  maxRules: number;
  hashSeed: number;
  deliverMetadata: boolean;
  /** Packets that a CPUMAP entry holds. */
  cpuQueueSize: number;
}

export interface FailedAz {
  name: string;
  cause: 'manual';
  /** ISO 8601. */
  since: string;
}

export interface DeviceRecord {
  version: typeof RECORD_VERSION;
  device: DeviceId;
  mac: string;
  settings: DataplaneSettings;
  /** AZs and rules as users write them. */
  spec: DeviceInput;
  failedAzs: FailedAz[];
  /** Rule set generation that holds `spec`; another one in the kernel is drift. */
  ruleGeneration: number;
  /** Whether the clsact qdisc was made by attach and goes with detach. */
  clsactMade: boolean;
}

/** Throws when what was read is no record of this version. */
function checkRecord(value: unknown): DeviceRecord {
  const record = value as DeviceRecord;
  if (record?.version !== RECORD_VERSION) throw new Error(`its version is ${String(record?.version)}`);
  if (!Array.isArray(record.settings?.queueCpus) || !Array.isArray(record.failedAzs))
    throw new Error('fields are missing');
  parseDevice(record.device.name, record.spec);
  return record;
}

export class RecordStore {
  readonly #folder: string;

  constructor(stateFolder: string) {
    this.#folder = path.join(stateFolder, 'devices');
  }

  #pathOf(device: DeviceId): string {
    return path.join(this.#folder, `${encodeURIComponent(deviceText(device))}.json`);
  }

  #stagedPathOf(device: DeviceId): string {
    return `${this.#pathOf(device)}.staged`;
  }

  /** Throws `state_damaged` when a record cannot be understood; the file is set aside, not deleted. */
  read(device: DeviceId): DeviceRecord | null {
    const file = this.#pathOf(device);
    if (!existsSync(file)) return null;
    const text = readFileSync(file, 'utf8');
    try {
      return checkRecord(JSON.parse(text));
    } catch (error) {
      const aside = `${file}.damaged-${Date.now()}`;
      renameSync(file, aside);
      throw new VnicError(
        'state_damaged',
        `The record of ${deviceText(device)} cannot be read; it was moved to ${aside}.`,
        {
          remedy: `Detach and attach again, or repair the file and move it back to ${file}.`,
          cause: error,
        },
      );
    }
  }

  /**
   * Keeps the record of an attach that is not done yet beside the one in force; `promote` puts it in force.
   * A killed attach so leaves the rules and AZs of the device as they were.
   */
  stage(record: DeviceRecord): void {
    this.#replace(record, this.#stagedPathOf(record.device));
  }

  /** Puts the staged record in force, if there is one. */
  promote(device: DeviceId): void {
    if (!existsSync(this.#stagedPathOf(device))) return;
    renameSync(this.#stagedPathOf(device), this.#pathOf(device));
    this.#syncFolder();
  }

  /** The staged record, or null. Without any complaint: what cannot be read was not staged. */
  readStaged(device: DeviceId): DeviceRecord | null {
    try {
      return JSON.parse(readFileSync(this.#stagedPathOf(device), 'utf8')) as DeviceRecord;
    } catch {
      return null;
    }
  }

  dropStaged(device: DeviceId): void {
    if (existsSync(this.#stagedPathOf(device))) rmSync(this.#stagedPathOf(device));
  }

  write(record: DeviceRecord): void {
    this.#replace(record, this.#pathOf(record.device));
  }

  #replace(record: DeviceRecord, file: string): void {
    const temporary = `${file}.${process.pid}.tmp`;
    try {
      mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      const fd = openSync(temporary, 'w', 0o600);
      try {
        writeFileSync(fd, `${JSON.stringify(record)}\n`);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(temporary, file);
      this.#syncFolder();
    } catch (error) {
      if (existsSync(temporary)) rmSync(temporary);
      throw new VnicError('failed', `The record of ${deviceText(record.device)} could not be written to ${file}.`, {
        remedy: 'Free space in its file system, or set VNIC_STATE_DIR to another folder.',
        cause: error,
      });
    }
  }

  remove(device: DeviceId): void {
    if (!existsSync(this.#pathOf(device))) return;
    rmSync(this.#pathOf(device));
    this.#syncFolder();
  }

  devices(): DeviceId[] {
    if (!existsSync(this.#folder)) return [];
    return readdirSync(this.#folder)
      .filter((name) => name.endsWith('.json'))
      .map((name) => {
        const [device = '', netns] = decodeURIComponent(name.slice(0, -'.json'.length)).split('@');
        return { name: device, netns: netns ?? null };
      });
  }

  #syncFolder(): void {
    const fd = openSync(this.#folder, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}
