// SPDX-License-Identifier: Apache-2.0
/** What a benchmark says of one thing it measured. */

export interface Result {
  name: string;
  unit: string;
  /** Null: it was not measured, `reason` says why; nothing is estimated. */
  median: number | null;
  min: number | null;
  max: number | null;
  runs: number;
  /** The floor's or the peer's median in the same rounds; null: there is none. */
  floor: number | null;
  /** Median over the rounds of result / floor. */
  ratio: number | null;
  /** Lower and upper quartile of the same. */
  ratioSpread: readonly [number, number] | null;
  /** What is promised of the ratio, or null. */
  bound: number | null;
  /** The ratio is at most the bound (default), or at least. */
  boundIs?: 'most' | 'least';
  /** What belongs to the figure and is none itself. */
  detail?: string;
  /** Why there is no figure. */
  reason?: string;
}

/** A figure with all that goes with it. */
export interface Measured extends Result {
  median: number;
  min: number;
  max: number;
  floor: number;
  ratio: number;
  ratioSpread: readonly [number, number];
}

/** Null: nothing is promised. What is promised and was not measured is not met, nor is what is not a number. */
export function isMet({ ratio, bound, boundIs = 'most' }: Result): boolean | null {
  if (bound === null) return null;
  if (ratio === null) return false;
  return boundIs === 'most' ? ratio <= bound : ratio >= bound;
}

export function verdictText(result: Result): string {
  const met = isMet(result);
  if (met === null) return '';
  return `${result.boundIs === 'least' ? '>=' : '<='} ${result.bound} ${met ? 'met' : 'MISSED'}`;
}

/** What this machine cannot show: a line without figures. */
export function notMeasured(name: string, unit: string, reason: string): Result {
  return {
    name,
    unit,
    median: null,
    min: null,
    max: null,
    runs: 0,
    floor: null,
    ratio: null,
    ratioSpread: null,
    bound: null,
    reason,
  };
}
