// SPDX-License-Identifier: Apache-2.0
/** Measured values against a promise that the worst of them has to keep. Pure. */
import { quantile } from './measure.ts';
import type { Measured, Result } from './result.ts';

/** A result that is told as a distribution, with how it was measured. */
export interface DistributionResult extends Measured {
  p90: number;
  p99: number;
  method: string;
}

export interface Judgement {
  name: string;
  unit: string;
  method: string;
  /** Null: it is told, nothing is promised. 0: none may be above 0. */
  promise: number | null;
  /** What has to keep the promise: the worst (default), or the 99th percentile. */
  judged?: 'max' | 'p99' | 'min';
}

/** Throws for no values: what was not measured is not met. */
export function distribution(values: readonly number[], judgement: Judgement): DistributionResult {
  const { name, unit, method, promise, judged = 'max' } = judgement;
  if (values.length === 0) throw new Error(`nothing was measured of: ${name}`);
  const all = { min: Math.min(...values), max: Math.max(...values), p99: quantile(values, 0.99) };
  // So that met is a ratio of at most 1, or of 0 where the promise is 0.
  const ratioOf = (value: number): number => {
    if (promise === null || promise === 0) return value;
    return judged === 'min' ? promise / value : value / promise;
  };
  const ratios = values.map(ratioOf);
  return {
    name,
    unit,
    median: quantile(values, 0.5),
    ...all,
    p90: quantile(values, 0.9),
    runs: values.length,
    floor: promise ?? 0,
    ratio: ratioOf(all[judged]),
    ratioSpread: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
    bound: promise === null ? null : promise === 0 ? 0 : 1,
    method,
  };
}

export function isDistribution(result: Result): result is DistributionResult {
  return 'p99' in result;
}

/** A line of the terminal's report, and the one that heads them. */
export const distributionHeading = `  ${''.padEnd(58)} ${['min', 'median', 'p90', 'p99', 'max']
  .map((name) => name.padStart(9))
  .join('')}`;

export function distributionLine(result: DistributionResult, digits: number): string {
  const { name, unit, min, median, p90, p99, max, bound, ratio, floor } = result;
  const figures = [min, median, p90, p99, max].map((value) => figure(value, digits).padStart(9)).join('');
  const verdict = bound === null ? '' : `  promised ${figure(floor, digits)}: ${ratio <= bound ? 'met' : 'MISSED'}`;
  return `  ${`${name}, ${unit}`.padEnd(58)} ${figures}${verdict}`;
}

const figure = (value: number, digits: number): string =>
  Number.isInteger(value) || value >= 10_000 ? String(Math.round(value)) : value.toFixed(digits);
