// SPDX-License-Identifier: Apache-2.0
/** The metrics of the daemon's process, process_* and nodejs_*, as prom-client collects them. */
import { collectDefaultMetrics, Registry } from 'prom-client';
import { type JsonMetric, jsonFamilies } from './json.ts';
import { formatFloat, LabelSet } from './labels.ts';
import type { TextFormat } from './negotiate.ts';
import { type Family, formatFamilies, type Line } from './text.ts';

/** A block of the event loop that is shorter may not be seen. */
const EVENT_LOOP_INTERVAL_MS = 200;

/** Collecting them takes as long as everything else of a scrape, and nobody watches a process more closely. */
const KEPT_FOR_MS = 1000;

/** Names that `promtool check metrics` refuses: gauges called `_total`, and types in names. */
const REFUSED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
  'nodejs_eventloop_utilization_histogram',
  'nodejs_eventloop_utilization_summary',
];

/** Times from one look at the event loop to the next, as Node counts them: what they are longer than the interval is the lag. */
const BETWEEN_LOOKS = /^nodejs_eventloop_lag_(?:min|max|mean|p50|p90|p99)_seconds$/;

interface RegistryMetric {
  name: string;
  help: string;
  type: string;
  values: { metricName?: string; labels: Readonly<Record<string, string | number>>; value: number }[];
}

export class ProcessMetrics {
  /** The daemon's own metrics may be registered here too. Not summaries. */
  readonly registry = new Registry();
  readonly #keptForMs: number;
  #families: Promise<Family[]> = Promise.resolve([]);
  #texts = new Map<TextFormat, string>();
  #keptUntilMs = 0;

  constructor({ keptForMs = KEPT_FOR_MS } = {}) {
    this.#keptForMs = keptForMs;
    collectDefaultMetrics({
      register: this.registry,
      // Each look at the lag wakes an idle daemon.
      eventLoopMonitoringPrecision: EVENT_LOOP_INTERVAL_MS,
      // What observes the utilization of the event loop cannot be left out, so it is made to sleep.
      eventLoopUtilizationTimeout: 600_000,
    });
    for (const name of REFUSED) this.registry.removeSingleMetric(name);
  }

  async text(format: TextFormat): Promise<string> {
    const families = await this.#gather();
    const text = this.#texts.get(format) ?? formatFamilies(families, format);
    this.#texts.set(format, text);
    return text;
  }

  async json(): Promise<JsonMetric[]> {
    return jsonFamilies(await this.#gather());
  }

  #gather(): Promise<Family[]> {
    const now = performance.now();
    if (now >= this.#keptUntilMs) {
      this.#keptUntilMs = now + this.#keptForMs;
      this.#texts.clear();
      this.#families = this.registry
        .getMetricsAsJSON()
        .then((metrics) => (metrics as unknown as RegistryMetric[]).map(toFamily));
    }
    return this.#families;
  }
}

function toFamily({ name, help, type, values }: RegistryMetric): Family {
  if (type !== 'counter' && type !== 'gauge' && type !== 'histogram') {
    throw new TypeError(`${name}: a ${type} cannot be shown`);
  }
  const intervalSeconds = BETWEEN_LOOKS.test(name) ? EVENT_LOOP_INTERVAL_MS / 1000 : 0;
  const lines = values.map(
    ({ metricName = name, labels, value }): Line => ({
      suffix: metricName.slice(name.length),
      set: new LabelSet(textLabels(labels)),
      value: intervalSeconds === 0 ? value : Math.max(0, value - intervalSeconds),
    }),
  );
  return { name, type, help, unit: null, lines };
}

function textLabels(labels: Readonly<Record<string, string | number>>): Record<string, string> {
  const texts = Object.entries(labels).map(([name, value]) => [
    name,
    typeof value === 'number' ? formatFloat(value) : value,
  ]);
  return Object.fromEntries(texts) as Record<string, string>;
}
