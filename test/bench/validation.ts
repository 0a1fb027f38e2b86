// SPDX-License-Identifier: Apache-2.0
/** The targets that the product is held against, and what a run achieved of each. Pure. */

/** `better`: whether more or less of it is good. `part` measures it. */
const targets = {
  throughput: { target: 20, unit: 'Gbit/s', better: 'more', part: 'live' },
  latency_p99: { target: 5, unit: 'us', better: 'less', part: 'latency' },
  continuity: { target: 0.99999, unit: 'share of packets', better: 'more', part: 'failover' },
  cache_pressure: { target: 0.35, unit: 'share of misses saved', better: 'more', part: 'packet' },
  scrape_p99: { target: 5, unit: 'ms', better: 'less', part: 'scrape' },
  queues: { target: 32, unit: 'queues', better: 'more', part: 'topologies' },
} as const;

export type TargetName = keyof typeof targets;

export interface Answer {
  /** Null: not measured; the method says why. */
  achieved: number | null;
  /** What was done to get the figure, or why there is none. */
  method: string;
}

export interface Validation extends Answer {
  target: number;
  unit: string;
  /** Achieved in terms of the target: 1 and above is met. Null if it was not measured. */
  ratio: number | null;
  /** Null if it was not measured. */
  met: boolean | null;
}

/** @param ran names of the parts that were run */
export function validate(
  answers: Partial<Record<TargetName, Answer>>,
  ran: readonly string[],
): Record<TargetName, Validation> {
  const entries = Object.entries(targets).map(([name, { target, unit, better, part }]) => {
    const why = ran.includes(part) ? `The part ${part} did not measure it.` : `The part ${part} was not run.`;
    const { achieved, method } = answers[name as TargetName] ?? { achieved: null, method: why };
    if (achieved === null) return [name, { target, unit, achieved, ratio: null, met: null, method }];
    // A figure of 0 where less is better cannot be divided by, and is met.
    const ratio = better === 'more' ? achieved / target : target / Math.max(achieved, Number.MIN_VALUE);
    return [name, { target, unit, achieved, ratio, met: ratio >= 1, method }];
  });
  return Object.fromEntries(entries) as Record<TargetName, Validation>;
}

/** Mean over the targets that were measured, of how much of each was reached, at most all of it; null if none was. */
export function overallScore(validation: Readonly<Record<string, Validation>>): number | null {
  const ratios = Object.values(validation)
    .map(({ ratio }) => ratio)
    .filter((ratio) => ratio !== null);
  if (ratios.length === 0) return null;
  return ratios.reduce((sum, ratio) => sum + Math.min(1, ratio), 0) / ratios.length;
}
