// SPDX-License-Identifier: Apache-2.0
/**
 * Metric families as text: the Prometheus text format 0.0.4 and OpenMetrics 1.0. Pure.
 * Whole numbers of any size are written exactly; Prometheus itself keeps them as doubles.
 */
import { escapeQuoted, escapeText, formatFloat, type LabelSet } from './labels.ts';
import type { TextFormat } from './negotiate.ts';

export interface Line {
  /** Behind the family's name: `_bucket`, `_sum`, `_count` or nothing. */
  suffix: string;
  set: LabelSet;
  value: number | bigint;
}

export interface Family {
  name: string;
  type: 'counter' | 'gauge' | 'histogram';
  help: string;
  unit: string | null;
  lines: readonly Line[];
}

/** What ends a text. */
export const textEnd: Readonly<Record<TextFormat, string>> = { prometheus: '', openmetrics: '# EOF\n' };

function formatValue(value: number | bigint): string {
  return typeof value === 'bigint' ? String(value) : formatFloat(value);
}

function formatFamily({ name, type, help, unit, lines }: Family, format: TextFormat): string {
  // In OpenMetrics a counter's family is named without the suffix that its samples have.
  const isOpenMetrics = format === 'openmetrics';
  const base = isOpenMetrics && type === 'counter' ? name.replace(/_total$/, '') : name;
  const sample = isOpenMetrics && type === 'counter' ? `${base}_total` : name;
  let text = `# HELP ${base} ${isOpenMetrics ? escapeQuoted(help) : escapeText(help)}\n# TYPE ${base} ${type}\n`;
  // A unit may only be given where the name ends in it.
  if (isOpenMetrics && unit !== null && base.endsWith(`_${unit}`)) text += `# UNIT ${base} ${unit}\n`;
  for (const { suffix, set, value } of lines) text += `${sample}${suffix}${set.text} ${formatValue(value)}\n`;
  return text;
}

/** A family without series is left out. `textEnd` comes behind the last one. */
export function formatFamilies(families: readonly Family[], format: TextFormat): string {
  let text = '';
  for (const family of families) if (family.lines.length > 0) text += formatFamily(family, format);
  return text;
}
