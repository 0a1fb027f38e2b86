// SPDX-License-Identifier: Apache-2.0
/** One part of a run: what it measured, or why it broke. */
import type { BenchContext, Part, PartOutput } from './part.ts';
import { withQuickBounds } from './quick-bounds.ts';
import { isMet, notMeasured, type Result } from './result.ts';

export interface JudgedOutput extends PartOutput {
  /** The part threw: what there is says why, and is missed. */
  broken: boolean;
}

/** What other parts measure is not lost with one that throws. */
async function attempt(part: Part, context: BenchContext): Promise<JudgedOutput> {
  try {
    return { ...(await part.run(context)), broken: false };
  } catch (error) {
    const reason = `it broke off: ${error instanceof Error ? error.message : String(error)}`;
    return { results: [{ ...notMeasured(`${part.name}, all of it`, '', reason), bound: 1 }], broken: true };
  }
}

const judged = (output: JudgedOutput): JudgedOutput =>
  output.broken ? output : { ...output, results: withQuickBounds(output.results) };

export const isMissed = (result: Result): boolean => isMet(result) === false;

/** In the short form a part that missed something is run once more, as the machine may have been busy: twice is a miss. */
export async function runPart(part: Part, context: BenchContext): Promise<JudgedOutput> {
  if (!context.quick) return await attempt(part, context);
  const first = judged(await attempt(part, context));
  const missed = first.results.filter(isMissed);
  if (missed.length === 0) return first;
  console.log(`(${part.name} once more: ${missed.map(({ name, reason }) => reason ?? name).join('; ')})`);
  const again = judged(await attempt(part, context));
  if (first.broken || again.broken) return again;
  const names = new Set(missed.map(({ name }) => name));
  // What was met the first time is met.
  return { ...again, results: again.results.map((one) => (names.has(one.name) ? one : { ...one, bound: null })) };
}
