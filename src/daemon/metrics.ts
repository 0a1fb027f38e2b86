// SPDX-License-Identifier: Apache-2.0
/** Metrics for scrapers: samples of the engine's devices, kept for as long as METRICS_CACHE_TTL says. */
import { Exposition, type MetricsJson, type Rendered } from '../telemetry/metrics/exposition.ts';
import type { MachineSample } from '../telemetry/metrics/machine.ts';
import type { DeviceSample } from '../telemetry/metrics/sample.ts';

/** What is taken at one moment. */
export interface Samples {
  devices: DeviceSample[];
  machine: MachineSample;
}

export interface SampleSource<T> {
  samples(): Promise<T>;
}

export interface Metrics {
  text(accept: string | undefined): Promise<Rendered>;
  json(): Promise<MetricsJson>;
}

export interface MetricsOptions {
  engine: SampleSource<Samples>;
  version: string;
  cacheMs: () => number;
}

/** An engine that loads a large rule set answers when it has done so. Then a scrape gets what the one before it got. */
const BUSY_AFTER_MS = 250;
/** Older samples than this are worse than a late answer. */
const USABLE_FOR_MS = 5000;

interface Taken<T> {
  samples: T;
  takenMs: number;
}

export class SampleCache<T> {
  readonly #engine: SampleSource<T>;
  readonly #cacheMs: () => number;
  #last: Taken<T> | null = null;
  /** Being taken: scrapes that come meanwhile wait for the same ones. */
  #coming: Promise<Taken<T>> | null = null;

  constructor(engine: SampleSource<T>, cacheMs: () => number) {
    this.#engine = engine;
    this.#cacheMs = cacheMs;
  }

  async get(): Promise<T> {
    const last = this.#last;
    const ageMs = last === null ? Number.POSITIVE_INFINITY : performance.now() - last.takenMs;
    if (last !== null && ageMs < this.#cacheMs()) return last.samples;
    this.#coming ??= this.#take();
    if (last === null || ageMs > USABLE_FOR_MS) return (await this.#coming).samples;
    return (await firstOf(this.#coming, last, BUSY_AFTER_MS)).samples;
  }

  async #take(): Promise<Taken<T>> {
    try {
      const taken = { samples: await this.#engine.samples(), takenMs: performance.now() };
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

export function createMetrics({ engine, version, cacheMs }: MetricsOptions): Metrics {
  const exposition = new Exposition({ version });
  const cache = new SampleCache(engine, cacheMs);
  return {
    text: async (accept) => {
      const { devices, machine } = await cache.get();
      return await exposition.render(devices, accept, machine);
    },
    json: async () => {
      const { devices, machine } = await cache.get();
      return await exposition.renderJson(devices, machine);
    },
  };
}
