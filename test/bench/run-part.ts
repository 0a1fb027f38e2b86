// SPDX-License-Identifier: Apache-2.0
/** One part of a run: what it measured, or why it broke. */
import type { BenchContext, Part, PartOutput } from './part.ts';
import { withQuickBounds } from './quick-bounds.ts';
import { isMet, notMeasured, type Result } from './result.ts';

export const isMissed = (result: Result): boolean => isMet(result) === false;

/** What other parts measure is not lost with one that throws. */
async function attempt(part: Part, context: BenchContext): Promise<PartOutput> {
  try {
    const output = await part.run(context);
    return context.quick ? { ...output, results: withQuickBounds(output.results) } : output;
  } catch (error) {
    const reason = `it broke off: ${error instanceof Error ? error.message : String(error)}`;
    return { results: [{ ...notMeasured(`${part.name}, all of it`, '', reason), bound: 1 }] };
  }
}

/** In the short form a part that missed something is run once more, as the machine may have been busy: twice is a miss. */
export async function runPart(part: Part, context: BenchContext): Promise<PartOutput> {
  const first = await attempt(part, context);
  const missed = first.results.filter(isMissed);
  if (!context.quick || missed.length === 0) return first;
  console.log(`(${part.name} once more: ${missed.map(({ name, reason }) => reason ?? name).join('; ')})`);
  const again = await attempt(part, context);
  const met = new Set(first.results.filter((one) => isMet(one) === true).map(({ name }) => name));
  // What was met the first time is met.
  return { ...again, results: again.results.map((one) => (met.has(one.name) ? { ...one, bound: null } : one)) };
}
