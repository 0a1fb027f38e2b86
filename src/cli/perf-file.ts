// SPDX-License-Identifier: Apache-2.0
/** A measurement of vnicctl perf that was kept as JSON. Loaded when one is asked for. */
import { z } from 'zod';
import { VnicError } from '../errors.ts';
import type { PerfRates } from '../telemetry/perf/rates.ts';

const figure = z.object({ value: z.number().nullable(), unavailable: z.string().nullable() });

/** What is compared. */
const measurement = z.looseObject({
  device: z.string(),
  seconds: z.number().positive(),
  packets: z.looseObject({ received: z.number(), receivedPerSecond: z.number() }),
  events: z.array(z.looseObject({ event: z.string(), perSecond: figure, perPacket: figure })),
  programs: z.array(z.looseObject({ program: z.string(), nsPerRun: figure, nsPerPacket: figure })),
  traces: z.array(z.looseObject({ name: z.string(), perSecond: figure })),
});

/** Throws `usage` for anything else. */
export function parseMeasurement(text: string, file: string): PerfRates & { device: string } {
  try {
    return measurement.parse(JSON.parse(text)) as unknown as PerfRates & { device: string };
  } catch (cause) {
    throw new VnicError('usage', `${file} is no measurement of vnicctl perf.`, {
      remedy: `Make one with: vnicctl -o json perf DEV > ${file}`,
      cause,
    });
  }
}
