// SPDX-License-Identifier: Apache-2.0
/** What a packet costs in two measurements: two modes, two settings, before and after. Pure. */
import type { Figure, PerfRates } from './rates.ts';

export interface ComparedFigure {
  name: string;
  unit: 'a packet' | 'a second' | 'ns a packet' | 'ns a run' | 'of references';
  before: Figure;
  after: Figure;
  /** after / before - 1: -0.35 is 35 % less. */
  change: Figure;
}

const missing = (unavailable: string): Figure => ({ value: null, unavailable });

function compared(name: string, unit: ComparedFigure['unit'], before: Figure, after: Figure): ComparedFigure {
  return { name, unit, before, after, change: changeOf(before, after) };
}

function changeOf(before: Figure, after: Figure): Figure {
  if (before.value === null) return missing(`before: ${before.unavailable ?? ''}`);
  if (after.value === null) return missing(`after: ${after.unavailable ?? ''}`);
  if (before.value === 0) return after.value === 0 ? { value: 0, unavailable: null } : missing('it was 0 before');
  return { value: after.value / before.value - 1, unavailable: null };
}

const NOT_THERE = missing('the measurement does not have it');

/** Share of the last-level cache's accesses that it could not serve. */
function missRatio({ events }: PerfRates): Figure {
  const of = (name: string): Figure => events.find(({ event }) => event === name)?.perSecond ?? NOT_THERE;
  const [misses, references] = [of('cache_misses'), of('cache_references')];
  if (misses.value === null) return misses;
  if (references.value === null) return references;
  return references.value > 0
    ? { value: misses.value / references.value, unavailable: null }
    : missing('the cache was not asked for anything');
}

/** Figures in the order of a report; cache misses a packet among the first. */
export function comparePerf(before: PerfRates, after: PerfRates): ComparedFigure[] {
  const eventOf = ({ events }: PerfRates, name: string): Figure =>
    events.find(({ event }) => event === name)?.perPacket ?? NOT_THERE;
  const programOf = ({ programs }: PerfRates, name: string, field: 'nsPerRun' | 'nsPerPacket'): Figure =>
    programs.find(({ program }) => program === name)?.[field] ?? NOT_THERE;
  const traceOf = ({ traces }: PerfRates, name: string): Figure =>
    traces.find((trace) => trace.name === name)?.perSecond ?? NOT_THERE;
  const rate = ({ packets }: PerfRates): Figure => ({ value: packets.receivedPerSecond, unavailable: null });
  return [
    compared('packets', 'a second', rate(before), rate(after)),
    ...after.events.map(({ event }) => compared(event, 'a packet', eventOf(before, event), eventOf(after, event))),
    compared('cache_misses', 'of references', missRatio(before), missRatio(after)),
    ...after.programs.flatMap(({ program }) =>
      (
        [
          ['nsPerRun', 'ns a run'],
          ['nsPerPacket', 'ns a packet'],
        ] as const
      ).map(([field, unit]) =>
        compared(program, unit, programOf(before, program, field), programOf(after, program, field)),
      ),
    ),
    ...after.traces.map(({ name }) => compared(name, 'a second', traceOf(before, name), traceOf(after, name))),
  ];
}
