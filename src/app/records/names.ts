// SPDX-License-Identifier: Apache-2.0
/** How the files of a device are called. Pure. */
import { type DeviceId, deviceText } from '../../loader/pins.ts';

const RULES = /^(.*)\.rules-([0-9a-f]{64})\.ndjson$/s;
const RECORD = /^(.*)\.json(?:\.previous)?$/s;
const KEPT_ASIDE = /\.damaged-\d+$/;

export class RecordNames {
  readonly #stem: string;
  readonly current: string;
  /** The record that was in force before the current one. */
  readonly previous: string;
  /** Of an attach that is not done yet. */
  readonly staged: string;

  constructor(device: DeviceId) {
    this.#stem = encodeURIComponent(deviceText(device));
    this.current = `${this.#stem}.json`;
    this.previous = `${this.current}.previous`;
    this.staged = `${this.current}.staged`;
  }

  rules(sha256: string): string {
    return `${this.#stem}.rules-${sha256}.ndjson`;
  }

  /** Whether the file is a damaged one of this device. */
  keptAside(name: string): boolean {
    if (!KEPT_ASIDE.test(name)) return false;
    const original = name.replace(KEPT_ASIDE, '');
    return (
      [this.current, this.previous, this.staged].includes(original) || rulesFile(original)?.current === this.current
    );
  }
}

/** What the name of a rules file says; null: it is none. `current`: the record beside it. */
export function rulesFile(name: string): { current: string; sha256: string } | null {
  const match = RULES.exec(name);
  return match === null ? null : { current: `${match[1]}.json`, sha256: match[2]! };
}

/** The device whose record a file is; null: it is not a record. */
export function recordDevice(name: string): DeviceId | null {
  const stem = RECORD.exec(name)?.[1];
  if (stem === undefined) return null;
  try {
    const [device = '', netns] = decodeURIComponent(stem).split('@');
    return { name: device, netns: netns ?? null };
  } catch {
    return null;
  }
}
