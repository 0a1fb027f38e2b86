// SPDX-License-Identifier: Apache-2.0
/**
 * The metrics of all devices and of the machine, as text for a scraper or as JSON.
 *
 * All of them stand in one prom-client registry. They are objects with `get()` that give absolute values: the library's
 * own counters can only be added to, which would make them fall behind the kernel's, and its histograms cannot be filled
 * from buckets. Of the library's formats only `getMetricsAsJSON` is used: its text writer turns a bigint into +Inf, and
 * writing OpenMetrics renames its counters for good.
 */
import { type Metric, Registry } from 'prom-client';
import { daemonMetrics, deviceMetrics } from './catalogue.ts';
import { type JsonUnavailable, jsonFamilies, type MetricsJson } from './json.ts';
import { type LabelSet, LabelSets } from './labels.ts';
import { type MachineSample, unmeasuredMachine } from './machine.ts';
import type { DaemonMetric, DeviceMetric, Series } from './metric.ts';
import type { TextFormat } from './negotiate.ts';
import { isUnavailable } from './part.ts';
import type { DeviceSample } from './sample.ts';
import { type Family, formatFamilies, type Line } from './text.ts';

/** As the library has a value; the line that it becomes is one with it. */
interface RegistryValue extends Line {
  labels: Readonly<Record<string, string>>;
}

interface RegistryMetric extends Pick<Family, 'name' | 'type' | 'help'> {
  values: RegistryValue[];
}

const units: ReadonlyMap<string, string | null> = new Map(
  [...deviceMetrics, ...daemonMetrics].map(({ name, unit }) => [name, unit]),
);

export class Exposition {
  readonly #registry = new Registry();
  readonly #labels = new LabelSets();
  readonly #malformed = new Map<string, number>();
  #samples: readonly DeviceSample[] = [];
  #machine: MachineSample = unmeasuredMachine;
  #unavailable: JsonUnavailable[] = [];

  /** @param version of vnicctl */
  constructor({ version }: { version: string }) {
    for (const metric of daemonMetrics) {
      this.#register(metric, () => this.#ofMachine(metric, version));
    }
    for (const metric of deviceMetrics) {
      this.#register(metric, () => this.#samples.flatMap((sample) => this.#ofDevice(metric, sample)));
    }
  }

  /** Without the end of the text: metrics of others may follow. */
  async text(
    samples: readonly DeviceSample[],
    format: TextFormat,
    machine: MachineSample = unmeasuredMachine,
  ): Promise<string> {
    const { families } = await this.#gather(samples, machine);
    return formatFamilies(families, format);
  }

  async json(samples: readonly DeviceSample[], machine: MachineSample = unmeasuredMachine): Promise<MetricsJson> {
    const { families, unavailable } = await this.#gather(samples, machine);
    return { metrics: jsonFamilies(families), unavailable };
  }

  async #gather(
    samples: readonly DeviceSample[],
    machine: MachineSample,
  ): Promise<{ families: Family[]; unavailable: JsonUnavailable[] }> {
    this.#samples = samples;
    this.#machine = machine;
    this.#unavailable = [];
    this.#labels.keep(new Set(samples.map(nameOf)));
    const unavailable = this.#unavailable;
    // Calls every get() of ours before it returns its promise, so that another scrape cannot come in between.
    const gathered = this.#registry.getMetricsAsJSON();
    this.#samples = [];
    const metrics = (await gathered) as unknown as RegistryMetric[];
    const families = metrics.map(
      ({ name, type, help, values }): Family => ({ name, type, help, unit: units.get(name) ?? null, lines: values }),
    );
    return { families, unavailable };
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
    this.#registry.registerMetric(metric as unknown as Metric);
  }

  #ofMachine({ name, series }: DaemonMetric, version: string): RegistryValue[] {
    const found = series({ version, machine: this.#machine });
    if (isUnavailable(found)) {
      this.#unavailable.push({ name, device: null, reason: found.unavailable });
      return [];
    }
    return this.#valuesOf(null, found);
  }

  /** A sample that is not what it should be costs its own series only, and is counted. */
  #ofDevice(metric: DeviceMetric, sample: DeviceSample): RegistryValue[] {
    const device = nameOf(sample);
    const malformed = this.#malformed.get(device) ?? 0;
    try {
      const series = metric.series(sample, { malformed });
      if (!isUnavailable(series)) return this.#valuesOf(device, series);
      this.#unavailable.push({ name: metric.name, device, reason: series.unavailable });
    } catch (error) {
      this.#malformed.set(device, malformed + 1);
      const reason = error instanceof Error ? error.message : String(error);
      this.#unavailable.push({ name: metric.name, device, reason: `the sample is damaged: ${reason}` });
    }
    return [];
  }

  #valuesOf(device: string | null, all: readonly Series[]): RegistryValue[] {
    const values: RegistryValue[] = [];
    for (const { labels, value } of all) {
      const set = this.#labels.of(device, labels);
      if (typeof value !== 'object') {
        values.push(registryValue('', set, value));
        continue;
      }
      for (const { le, count } of value.buckets) values.push(registryValue('_bucket', set.withEdge(le), count));
      values.push(
        registryValue('_bucket', set.withEdge(Number.POSITIVE_INFINITY), value.count),
        registryValue('_sum', set, value.sum),
        registryValue('_count', set, value.count),
      );
    }
    return values;
  }
}

function nameOf(sample: DeviceSample): string {
  return typeof sample?.device === 'string' ? sample.device : 'unknown';
}

function registryValue(suffix: string, set: LabelSet, value: number | bigint): RegistryValue {
  if (typeof value !== 'number' && typeof value !== 'bigint') throw new TypeError(`${typeof value} is not a number`);
  return { suffix, set, labels: set.labels, value };
}
