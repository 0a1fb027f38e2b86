// SPDX-License-Identifier: Apache-2.0
/** A part's results on the terminal. */
import { distributionHeading, distributionLine, isDistribution } from './distribution.ts';
import type { Part } from './part.ts';
import { type Result, verdictText } from './result.ts';
import type { Validation } from './validation.ts';

function line(result: Result, digits: number, width: number): string {
  const { name, unit, median, ratio, ratioSpread, detail = '', reason } = result;
  if (median === null) return `  ${name.padEnd(width)} not measured: ${reason ?? 'no reason was given'}`;
  const figure = `${median.toFixed(digits).padStart(9)} ${unit.padEnd(9)}`;
  if (ratio === null) return `  ${name.padEnd(width)} ${figure}`;
  const spread = ratioSpread === null ? '' : `(${ratioSpread.map((value) => value.toFixed(2)).join('-')})`;
  return `  ${name.padEnd(width)} ${figure} ${ratio.toFixed(2).padStart(6)} ${spread.padEnd(14)} ${[verdictText(result), detail].filter((text) => text !== '').join('; ')}`.trimEnd();
}

export function printPart({ name, title, digits }: Part, results: readonly Result[]): void {
  console.log(`${name}: ${title}`);
  if (results.some(isDistribution)) console.log(distributionHeading);
  const width = Math.max(56, ...results.map(({ name: one }) => one.length));
  for (const result of results) {
    console.log(isDistribution(result) ? distributionLine(result, digits) : line(result, digits, width));
  }
  for (const method of new Set(results.filter(isDistribution).map((result) => result.method))) {
    console.log(`  ${method}`);
  }
}

export function printValidation(validation: Readonly<Record<string, Validation>>, score: number | null): void {
  console.log('targets:');
  for (const [name, { target, unit, achieved, met, method }] of Object.entries(validation)) {
    const verdict = achieved === null ? `not measured: ${method}` : `${round(achieved)} ${met ? 'met' : 'MISSED'}`;
    console.log(`  ${name.padEnd(16)} ${`${target} ${unit}`.padEnd(28)} ${verdict}`);
  }
  console.log(`  overall score: ${score === null ? 'none of them was measured' : score.toFixed(3)}`);
}

const round = (value: number): string => String(Number(value.toPrecision(6)));
