// SPDX-License-Identifier: Apache-2.0
/** What is recorded of an open device, and what follows from it: its configuration and model. */
import type { DeviceConfig } from '../config/device.ts';
import { DeviceModel } from './device-model.ts';
import type { DeviceRecord, RecordStore } from './record.ts';

export class DeviceState {
  readonly #records: RecordStore;
  #record: DeviceRecord;
  #config: DeviceConfig;
  #model: DeviceModel;
  #isUnsaved = false;

  constructor(records: RecordStore, record: DeviceRecord, config: DeviceConfig, model: DeviceModel) {
    this.#records = records;
    this.#record = record;
    this.#config = config;
    this.#model = model;
  }

  get record(): DeviceRecord {
    return this.#record;
  }

  get config(): DeviceConfig {
    return this.#config;
  }

  get model(): DeviceModel {
    return this.#model;
  }

  /** State files that could not be read and were kept aside. */
  damagedFiles(): string[] {
    return this.#records.damaged(this.#record.device);
  }

  save(change: Partial<DeviceRecord>): void {
    this.#record = this.#records.write({ ...this.#record, ...change });
    this.#isUnsaved = false;
  }

  /** For what is so already, whether it can be recorded now or not: `retrySave` tries again. */
  note(change: Partial<DeviceRecord>): void {
    try {
      this.save(change);
    } catch {
      this.#record = { ...this.#record, ...change };
      this.#isUnsaved = true;
    }
  }

  get isUnsaved(): boolean {
    return this.#isUnsaved;
  }

  /** Records what could not be recorded before. */
  retrySave(): void {
    if (this.#isUnsaved) this.save({});
  }

  /** The configuration that the recorded spec says. */
  setConfig(config: DeviceConfig): void {
    this.#config = config;
    this.#model = DeviceModel.of(config, this.#record.settings.queueCpus);
  }
}
