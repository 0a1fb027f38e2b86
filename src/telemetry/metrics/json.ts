// SPDX-License-Identifier: Apache-2.0
/** Metric families as JSON. Pure. */
import type { MetricType } from './metric.ts';
import type { Family, Line } from './text.ts';

export interface JsonHistogram {
  /** Cumulative. The edge is written as in the text format; the last one is +Inf. */
  buckets: { le: string; count: number }[];
  sum: number;
  count: number;
}

export interface JsonSeries {
  labels: Record<string, string>;
  value?: number;
  histogram?: JsonHistogram;
}

export interface JsonMetric {
  name: string;
  type: MetricType;
  help: string;
  unit: string | null;
  series: JsonSeries[];
}

export interface JsonUnavailable {
  name: string;
  /** Null: of the machine. */
  device: string | null;
  reason: string;
}

/** Numbers are doubles here: above 2^53 the text is exact and this is the nearest double. */
export interface MetricsJson {
  metrics: JsonMetric[];
  unavailable: JsonUnavailable[];
}

/** A family without series is left out. */
export function jsonFamilies(families: readonly Family[]): JsonMetric[] {
  return families
    .filter(({ lines }) => lines.length > 0)
    .map(({ name, type, help, unit, lines }): JsonMetric => {
      const series = type === 'histogram' ? histogramSeries(lines) : lines.map(plainSeries);
      return { name, type, help, unit, series };
    });
}

function plainSeries({ set, value }: Line): JsonSeries {
  return { labels: { ...set.labels }, value: Number(value) };
}

/** Lines of one histogram follow each other: buckets, sum, count. */
function histogramSeries(lines: readonly Line[]): JsonSeries[] {
  const all = new Map<string, { labels: Record<string, string>; histogram: JsonHistogram }>();
  for (const { suffix, set, value } of lines) {
    const { le, ...own } = set.labels;
    const key = JSON.stringify(own);
    const series = all.get(key) ?? { labels: own, histogram: { buckets: [], sum: 0, count: 0 } };
    all.set(key, series);
    if (suffix === '_sum') series.histogram.sum = Number(value);
    else if (suffix === '_count') series.histogram.count = Number(value);
    else if (le !== undefined) series.histogram.buckets.push({ le, count: Number(value) });
  }
  return [...all.values()];
}
