// SPDX-License-Identifier: Apache-2.0
/** Labels of series, and their text. A scrape has a thousand of them, nearly all as in the scrape before. */
import type { LabelName, Labels } from './metric.ts';

/** Of one name or pair of names: rules come and go, and what they leave must not add up. */
const MOST_KNOWN = 4096;

/** What is kept under the key; made the first time. */
function found<K, V>(kept: { get(key: K): V | undefined; set(key: K, value: V): unknown }, key: K, make: () => V): V {
  const there = kept.get(key);
  if (there !== undefined) return there;
  const made = make();
  kept.set(key, made);
  return made;
}

const known = new Map<string, Map<string, Labels>>();

function kept(names: string, values: string, make: () => Labels): Labels {
  const ofNames = found(known, names, () => new Map<string, Labels>());
  if (ofNames.size >= MOST_KNOWN) ofNames.clear();
  return found(ofNames, values, make);
}

export const noLabels: Labels = {};

/** One label: the same object whenever it is asked for, so that its text is found again. */
export function labelled(name: LabelName, value: string | number): Labels {
  const text = String(value);
  return kept(name, text, () => ({ [name]: text }));
}

/** As `labelled`, with two labels. */
export function labelledTwice(
  name: LabelName,
  value: string | number,
  otherName: LabelName,
  otherValue: string | number,
): Labels {
  return kept(`${name} ${otherName}`, `${value}\n${otherValue}`, () => ({
    [name]: String(value),
    [otherName]: String(otherValue),
  }));
}

/** As Go prints a float (%g), which is the canonical form of an `le` label. */
export function formatFloat(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf';
  const magnitude = Math.abs(value);
  if (magnitude !== 0 && (magnitude < 1e-4 || magnitude >= 1e21)) {
    return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2');
  }
  return String(value);
}

const NEEDS_ESCAPE = /[\\"\n]/;

export function escapeText(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

export function escapeQuoted(text: string): string {
  return escapeText(text).replaceAll('"', '\\"');
}

function labelText(labels: Readonly<Record<string, string>>): string {
  let pairs = '';
  for (const name in labels) {
    const value = labels[name]!;
    const escaped = NEEDS_ESCAPE.test(value) ? escapeQuoted(value) : value;
    pairs += `${pairs === '' ? '' : ','}${name}="${escaped}"`;
  }
  return pairs === '' ? '' : `{${pairs}}`;
}

/** All labels of a series. */
export class LabelSet {
  readonly labels: Readonly<Record<string, string>>;
  /** With its braces; empty without labels. */
  readonly text: string;
  #edges: Map<number, LabelSet> | null = null;

  constructor(labels: Readonly<Record<string, string>>) {
    this.labels = labels;
    this.text = labelText(labels);
  }

  /** With the upper edge of a histogram's bucket besides. */
  withEdge(le: number): LabelSet {
    this.#edges ??= new Map();
    return found(this.#edges, le, () => new LabelSet({ ...this.labels, le: formatFloat(le) }));
  }
}

/** Label sets by device and by the object that has the series' own labels. */
export class LabelSets {
  readonly #ofDevices = new Map<string | null, WeakMap<Labels, LabelSet>>();

  /** @param device null: a series of the machine */
  of(device: string | null, labels: Labels): LabelSet {
    const ofDevice = found(this.#ofDevices, device, () => new WeakMap<Labels, LabelSet>());
    const own = labels as Readonly<Record<string, string>>;
    return found(ofDevice, labels, () => new LabelSet(device === null ? own : { device, ...own }));
  }

  /** Those of other devices are not needed any more. */
  keep(devices: ReadonlySet<string>): void {
    for (const device of this.#ofDevices.keys()) {
      if (device !== null && !devices.has(device)) this.#ofDevices.delete(device);
    }
  }
}
