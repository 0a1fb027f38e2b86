// SPDX-License-Identifier: Apache-2.0
/**
 * Metrics for scrapers: those of devices and machine as the engine writes them, kept for as long as METRICS_CACHE_TTL says,
 * and behind them those of the process.
 */
import { Registry } from 'prom-client';
import type { FleetSample } from '../telemetry/metrics/fleet.ts';
import type { MetricsJson } from '../telemetry/metrics/json.ts';
import { negotiate, type TextFormat } from '../telemetry/metrics/negotiate.ts';
import { ProcessMetrics } from '../telemetry/metrics/process.ts';
import { textEnd } from '../telemetry/metrics/text.ts';

export interface MetricsRequest {
  format: TextFormat | 'json';
  /** Not the engine's: it is known without asking. */
  fleet: FleetSample | null;
}

export interface Rendered {
  contentType: string;
  /** What the engine wrote. */
  body: Uint8Array;
  /** What comes behind it. */
  tail: Uint8Array;
}

export interface Metrics {
  text(accept: string | undefined): Promise<Rendered>;
  json(): Promise<MetricsJson>;
}

export interface MetricsOptions {
  /** Text without its end, or JSON. */
  engine: { metrics(request: MetricsRequest): Promise<Uint8Array> };
  cacheMs: () => number;
  fleet: () => FleetSample | null;
}

/** An engine that loads a large rule set answers when it has done so. Then a scrape gets what the one before it got. */
const BUSY_AFTER_MS = 250;
/** Older answers than this are worse than a late one. */
const USABLE_FOR_MS = 5000;

const contentTypes: Readonly<Record<TextFormat, string>> = {
  prometheus: Registry.PROMETHEUS_CONTENT_TYPE,
  openmetrics: Registry.OPENMETRICS_CONTENT_TYPE,
};

interface Taken<T> {
  answer: T;
  takenMs: number;
}

export class AnswerCache<T> {
  readonly #ask: () => Promise<T>;
  readonly #cacheMs: () => number;
  #last: Taken<T> | null = null;
  /** Being taken: scrapes that come meanwhile wait for the same one. */
  #coming: Promise<Taken<T>> | null = null;

  constructor(ask: () => Promise<T>, cacheMs: () => number) {
    this.#ask = ask;
    this.#cacheMs = cacheMs;
  }

  async get(): Promise<T> {
    const last = this.#last;
    const ageMs = last === null ? Number.POSITIVE_INFINITY : performance.now() - last.takenMs;
    if (last !== null && ageMs < this.#cacheMs()) return last.answer;
    this.#coming ??= this.#take();
    if (last === null || ageMs > USABLE_FOR_MS) return (await this.#coming).answer;
    return (await firstOf(this.#coming, last, BUSY_AFTER_MS)).answer;
  }

  async #take(): Promise<Taken<T>> {
    try {
      const taken = { answer: await this.#ask(), takenMs: performance.now() };
      this.#last = taken;
      return taken;
    } finally {
      this.#coming = null;
    }
  }
}

/** `coming`, or `instead` if that takes longer than `afterMs`. */
async function firstOf<T>(coming: Promise<T>, instead: T, afterMs: number): Promise<T> {
  const late = Promise.withResolvers<T>();
  const timer = setTimeout(() => late.resolve(instead), afterMs);
  // Whoever comes next sees why it failed.
  coming.catch(() => undefined);
  try {
    return await Promise.race([coming, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

export function createMetrics({ engine, cacheMs, fleet }: MetricsOptions): Metrics {
  const ofProcess = new ProcessMetrics();
  const cacheOf = (format: MetricsRequest['format']): AnswerCache<Uint8Array> =>
    new AnswerCache(() => engine.metrics({ format, fleet: fleet() }), cacheMs);
  const caches = { prometheus: cacheOf('prometheus'), openmetrics: cacheOf('openmetrics'), json: cacheOf('json') };
  return {
    text: async (accept) => {
      const format = negotiate(accept);
      const [body, rest] = await Promise.all([caches[format].get(), ofProcess.text(format)]);
      return { contentType: contentTypes[format], body, tail: Buffer.from(`${rest}${textEnd[format]}`) };
    },
    json: async () => {
      const [ofDevices, rest] = await Promise.all([caches.json.get(), ofProcess.json()]);
      const { metrics, unavailable } = JSON.parse(Buffer.from(ofDevices).toString()) as MetricsJson;
      return { metrics: [...metrics, ...rest], unavailable };
    },
  };
}
