// SPDX-License-Identifier: Apache-2.0
/**
 * Metric families as text: the Prometheus text format 0.0.4 and OpenMetrics 1.0. Pure.
 * Whole numbers of any size are written exactly; Prometheus itself keeps them as doubles.
 */
import type { TextFormat } from './negotiate.ts';

export interface Line {
  /** Behind the family's name: `_bucket`, `_sum`, `_count` or nothing. */
  suffix: string;
  labels: Readonly<Record<string, string>>;
  value: number | bigint;
}

export interface Family {
  name: string;
  type: 'counter' | 'gauge' | 'histogram';
  help: string;
  unit: string | null;
  lines: readonly Line[];
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

function escapeText(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function escapeQuoted(text: string): string {
  return escapeText(text).replaceAll('"', '\\"');
}

const NEEDS_ESCAPE = /[\\"\n]/;

function formatLabels(labels: Line['labels']): string {
  let pairs = '';
  for (const name in labels) {
    const value = labels[name]!;
    const escaped = NEEDS_ESCAPE.test(value) ? escapeQuoted(value) : value;
    pairs += `${pairs === '' ? '' : ','}${name}="${escaped}"`;
  }
  return pairs === '' ? '' : `{${pairs}}`;
}

function formatValue(value: number | bigint): string {
  return typeof value === 'bigint' ? String(value) : formatFloat(value);
}

function familyLines({ name, type, help, unit, lines }: Family, format: TextFormat): string[] {
  // In OpenMetrics a counter's family is named without the suffix that its samples have.
  const isOpenMetrics = format === 'openmetrics';
  const base = isOpenMetrics && type === 'counter' ? name.replace(/_total$/, '') : name;
  const sample = isOpenMetrics && type === 'counter' ? `${base}_total` : name;
  return [
    `# HELP ${base} ${isOpenMetrics ? escapeQuoted(help) : escapeText(help)}`,
    `# TYPE ${base} ${type}`,
    // A unit may only be given where the name ends in it.
    ...(isOpenMetrics && unit !== null && base.endsWith(`_${unit}`) ? [`# UNIT ${base} ${unit}`] : []),
    ...lines.map(({ suffix, labels, value }) => `${sample}${suffix}${formatLabels(labels)} ${formatValue(value)}`),
  ];
}

/** A family without series is left out. */
export function formatFamilies(families: readonly Family[], format: TextFormat): string {
  const lines = families.filter((family) => family.lines.length > 0).flatMap((family) => familyLines(family, format));
  if (format === 'openmetrics') lines.push('# EOF');
  return lines.map((line) => `${line}\n`).join('');
}
