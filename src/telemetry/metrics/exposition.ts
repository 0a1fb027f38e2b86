// SPDX-License-Identifier: Apache-2.0
/**
 * The metrics of all devices and of the process, as text for a scraper or as JSON.
 *
 * All of them stand in one prom-client registry. Ours are objects with `get()` that give absolute values: its own counters
 * can only be added to, which would make them fall behind the kernel's, and its histograms cannot be filled from buckets.
 * Of the library's formats only `getMetricsAsJSON` is used: its text writer turns a bigint into +Inf, and writing
 * OpenMetrics renames its counters for good.
 */
import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import { daemonMetrics, deviceMetrics } from './catalogue.ts';
import { type MachineSample, unmeasuredMachine } from './machine.ts';
import type { DaemonMetric, DeviceMetric, MetricType, Series } from './metric.ts';
import { negotiate } from './negotiate.ts';
import { isUnavailable } from './part.ts';
import type { DeviceSample } from './sample.ts';
import { type Family, formatFamilies, formatFloat, type Line } from './text.ts';

export interface ExpositionOptions {
  /** Of vnicctl. */
  version: string;
  /** The process's own process_* and nodejs_* metrics; default true. They start an observer and timers. */
  processMetrics?: boolean;
}

export interface Rendered {
  contentType: string;
  body: string;
}

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

/** The form of a value in the library, and beside it the exact one. */
interface RegistryValue {
  metricName?: string;
  labels: Record<string, string | number>;
  value: number;
  exact?: bigint;
}

interface RegistryMetric {
  name: string;
  help: string;
  type: string;
  values: RegistryValue[];
}

/** Names that `promtool check metrics` refuses: gauges called `_total`, and types in names. */
const REFUSED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
  'nodejs_eventloop_utilization_histogram',
  'nodejs_eventloop_utilization_summary',
];

const units: ReadonlyMap<string, string | null> = new Map(
  [...deviceMetrics, ...daemonMetrics].map(({ name, unit }) => [name, unit]),
);

export class Exposition {
  /** The daemon's own metrics may be registered here too. Not summaries. */
  readonly registry = new Registry();
  readonly #malformed = new Map<string, number>();
  #samples: readonly DeviceSample[] = [];
  #machine: MachineSample = unmeasuredMachine;
  #unavailable: JsonUnavailable[] = [];

  constructor({ version, processMetrics = true }: ExpositionOptions) {
    for (const metric of daemonMetrics) {
      this.#register(metric, () => this.#ofMachine(metric, version));
    }
    for (const metric of deviceMetrics) {
      this.#register(metric, () => this.#samples.flatMap((sample) => this.#ofDevice(metric, sample)));
    }
    if (processMetrics) {
      // What observes the utilization of the event loop cannot be left out, so it is made to sleep.
      collectDefaultMetrics({ register: this.registry, eventLoopUtilizationTimeout: 600_000 });
      for (const name of REFUSED) this.registry.removeSingleMetric(name);
    }
  }

  /** @param accept Accept header of the request */
  async render(
    samples: readonly DeviceSample[],
    accept?: string,
    machine: MachineSample = unmeasuredMachine,
  ): Promise<Rendered> {
    const format = negotiate(accept);
    const { families } = await this.#gather(samples, machine);
    const contentType = format === 'openmetrics' ? Registry.OPENMETRICS_CONTENT_TYPE : Registry.PROMETHEUS_CONTENT_TYPE;
    return { contentType, body: formatFamilies(families, format) };
  }

  async renderJson(samples: readonly DeviceSample[], machine: MachineSample = unmeasuredMachine): Promise<MetricsJson> {
    const { families, unavailable } = await this.#gather(samples, machine);
    const metrics = families
      .filter(({ lines }) => lines.length > 0)
      .map(
        ({ name, type, help, unit, lines }): JsonMetric => ({
          name,
          type,
          help,
          unit,
          series:
            type === 'histogram'
              ? histogramSeries(lines)
              : lines.map(({ labels, value }) => ({ labels: { ...labels }, value: Number(value) })),
        }),
      );
    return { metrics, unavailable };
  }

  async #gather(
    samples: readonly DeviceSample[],
    machine: MachineSample,
  ): Promise<{ families: Family[]; unavailable: JsonUnavailable[] }> {
    this.#samples = samples;
    this.#machine = machine;
    this.#unavailable = [];
    const unavailable = this.#unavailable;
    // Calls every get() of ours before it returns its promise, so that another scrape cannot come in between.
    const gathered = this.registry.getMetricsAsJSON();
    this.#samples = [];
    const metrics = (await gathered) as unknown as RegistryMetric[];
    return { families: metrics.map(toFamily), unavailable };
  }

  /** The library takes any object with `get()` (lib/registry.js), its types only its own classes. */
  #register({ name, help, type }: DeviceMetric | DaemonMetric, values: () => RegistryValue[]): void {
    const metric = {
      name,
      help,
      type,
      aggregator: 'omit',
      get: () => Promise.resolve({ name, help, type, aggregator: 'omit', values: values() }),
      reset: () => {},
    };
    this.registry.registerMetric(metric as unknown as Metric);
  }

  #ofMachine({ name, series }: DaemonMetric, version: string): RegistryValue[] {
    const found = series({ version, machine: this.#machine });
    if (!isUnavailable(found)) return found.flatMap((entry) => registryValues(name, entry));
    this.#unavailable.push({ name, device: null, reason: found.unavailable });
    return [];
  }

  /** A sample that is not what it should be costs its own series only, and is counted. */
  #ofDevice(metric: DeviceMetric, sample: DeviceSample): RegistryValue[] {
    const device = typeof sample?.device === 'string' ? sample.device : 'unknown';
    const malformed = this.#malformed.get(device) ?? 0;
    try {
      const series = metric.series(sample, { malformed });
      if (isUnavailable(series)) {
        this.#unavailable.push({ name: metric.name, device, reason: series.unavailable });
        return [];
      }
      return series.flatMap(({ labels, value }) =>
        registryValues(metric.name, { labels: { device, ...labels }, value }),
      );
    } catch (error) {
      this.#malformed.set(device, malformed + 1);
      const reason = error instanceof Error ? error.message : String(error);
      this.#unavailable.push({ name: metric.name, device, reason: `the sample is damaged: ${reason}` });
      return [];
    }
  }
}

function registryValue(labels: Record<string, string | number>, value: number | bigint, metricName?: string) {
  if (typeof value !== 'number' && typeof value !== 'bigint') throw new TypeError(`${typeof value} is not a number`);
  return {
    labels,
    value: Number(value),
    ...(typeof value === 'bigint' ? { exact: value } : {}),
    ...(metricName === undefined ? {} : { metricName }),
  };
}

function registryValues(name: string, { labels, value }: Series): RegistryValue[] {
  if (typeof value !== 'object') return [registryValue({ ...labels }, value)];
  return [
    ...value.buckets.map(({ le, count }) => registryValue({ ...labels, le }, count, `${name}_bucket`)),
    registryValue({ ...labels, le: '+Inf' }, value.count, `${name}_bucket`),
    registryValue({ ...labels }, value.sum, `${name}_sum`),
    registryValue({ ...labels }, value.count, `${name}_count`),
  ];
}

function textLabels(labels: RegistryValue['labels']): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const name in labels) {
    const value = labels[name]!;
    texts[name] = typeof value === 'number' ? formatFloat(value) : value;
  }
  return texts;
}

function toFamily({ name, help, type, values }: RegistryMetric): Family {
  if (type !== 'counter' && type !== 'gauge' && type !== 'histogram') {
    throw new TypeError(`${name}: a ${type} cannot be shown`);
  }
  const lines = values.map(
    ({ metricName = name, labels, value, exact }): Line => ({
      suffix: metricName.slice(name.length),
      labels: textLabels(labels),
      value: exact ?? value,
    }),
  );
  return { name, type, help, unit: units.get(name) ?? null, lines };
}

/** Lines of one histogram follow each other: buckets, sum, count. */
function histogramSeries(lines: readonly Line[]): JsonSeries[] {
  const all = new Map<string, { labels: Record<string, string>; histogram: JsonHistogram }>();
  for (const { suffix, labels, value } of lines) {
    const { le, ...own } = labels;
    const key = JSON.stringify(own);
    const series = all.get(key) ?? { labels: own, histogram: { buckets: [], sum: 0, count: 0 } };
    all.set(key, series);
    if (suffix === '_sum') series.histogram.sum = Number(value);
    else if (suffix === '_count') series.histogram.count = Number(value);
    else if (le !== undefined) series.histogram.buckets.push({ le, count: Number(value) });
  }
  return [...all.values()];
}
