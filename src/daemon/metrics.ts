// SPDX-License-Identifier: Apache-2.0
/** Metrics for scrapers: samples of the engine's devices, kept for as long as METRICS_CACHE_TTL says. */

import { Exposition, type MetricsJson, type Rendered } from '../telemetry/metrics/exposition.ts';
import type { DeviceSample } from '../telemetry/metrics/sample.ts';

export interface MetricsSource {
  samples(): Promise<DeviceSample[]>;
}

export interface Metrics {
  text(accept: string | undefined): Promise<Rendered>;
  json(): Promise<MetricsJson>;
}

export function createMetrics(options: { engine: MetricsSource; version: string; cacheMs: () => number }): Metrics {
  const exposition = new Exposition({ version: options.version });
  let cached: { samples: Promise<DeviceSample[]>; takenMs: number } | null = null;

  /** Scrapes that come while samples are being taken get the same ones. */
  function samples(): Promise<DeviceSample[]> {
    const now = performance.now();
    if (cached !== null && now - cached.takenMs <= options.cacheMs()) return cached.samples;
    const taken = { samples: options.engine.samples(), takenMs: now };
    cached = taken;
    taken.samples.catch(() => {
      if (cached === taken) cached = null;
    });
    return taken.samples;
  }

  return {
    text: async (accept) => await exposition.render(await samples(), accept),
    json: async () => await exposition.renderJson(await samples()),
  };
}
