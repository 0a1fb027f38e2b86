// SPDX-License-Identifier: Apache-2.0
/** A strict reader of the two text formats that scrapers take, written from their descriptions and not from the writer. */

export interface ParsedFamily {
  type: string;
  help: string;
  unit: string | null;
  /** By name and labels, labels in the order of their names. The value is as it was written. */
  samples: Map<string, string>;
}

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)/y;
const VALUE = /^(?:[+-]Inf|NaN|-?\d+(?:\.\d+)?(?:e[+-]\d{2,})?)$/;

export function unescapeLabel(text: string): string {
  return text.replace(/\\(.)/g, (_, letter: string) => (letter === 'n' ? '\n' : letter));
}

export function parseLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  LABEL.lastIndex = 0;
  while (LABEL.lastIndex < text.length) {
    const at = LABEL.lastIndex;
    const match = LABEL.exec(text);
    if (match === null) throw new Error(`labels, from ${at}: ${text}`);
    const [, name = '', value = ''] = match;
    if (name in labels) throw new Error(`label ${name} is there twice: ${text}`);
    labels[name] = unescapeLabel(value);
  }
  return labels;
}

/** `name{a="1",b="2"}` as a key, however the labels were ordered. */
export function seriesKey(name: string, labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([label, value]) => `${label}=${JSON.stringify(value)}`);
  return pairs.length === 0 ? name : `${name}{${pairs.join(',')}}`;
}

/** Throws on a line that is neither, on a sample outside its family, on a family or series that comes twice. */
export function parseMetrics(text: string, format: 'prometheus' | 'openmetrics' = 'prometheus') {
  const families = new Map<string, ParsedFamily>();
  let current: { name: string; family: ParsedFamily } | undefined;
  const lines = text.split('\n');
  if (lines.pop() !== '') throw new Error('the last line does not end');
  if (format === 'openmetrics' && lines.pop() !== '# EOF') throw new Error('the text does not end in # EOF');
  for (const line of lines) {
    const comment = /^# (HELP|TYPE|UNIT) (\S+) (.*)$/.exec(line);
    if (comment !== null) {
      const [, kind = '', name = '', rest = ''] = comment;
      if (current?.name !== name) {
        if (families.has(name)) throw new Error(`family ${name} is there twice`);
        current = { name, family: { type: '', help: '', unit: null, samples: new Map() } };
        families.set(name, current.family);
      }
      if (current.family.samples.size > 0) throw new Error(`behind its samples: ${line}`);
      if (kind === 'HELP') current.family.help = rest;
      else if (kind === 'TYPE') current.family.type = rest;
      else current.family.unit = rest;
      continue;
    }
    const sample = SAMPLE.exec(line);
    if (sample === null || current === undefined) throw new Error(`not a sample: ${JSON.stringify(line)}`);
    const [, name = '', labels = '', value = ''] = sample;
    if (!VALUE.test(value)) throw new Error(`not a value: ${line}`);
    if (!allowedNames(current.name, current.family.type, format).includes(name)) {
      throw new Error(`${name} is not of family ${current.name}`);
    }
    const key = seriesKey(name, parseLabels(labels));
    if (current.family.samples.has(key)) throw new Error(`${key} is there twice`);
    current.family.samples.set(key, value);
  }
  return families;
}

function allowedNames(family: string, type: string, format: string): string[] {
  if (type === 'histogram') return [`${family}_bucket`, `${family}_sum`, `${family}_count`];
  return [format === 'openmetrics' && type === 'counter' ? `${family}_total` : family];
}

/** All series of all families, or of those whose name begins so. */
export function allSamples(families: ReadonlyMap<string, ParsedFamily>, prefix = ''): Map<string, string> {
  const picked = [...families].filter(([name]) => name.startsWith(prefix));
  return new Map(picked.flatMap(([, { samples }]) => [...samples]));
}
