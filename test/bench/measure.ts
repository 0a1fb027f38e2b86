// SPDX-License-Identifier: Apache-2.0
/** Interleaved measurement: every round runs each subject once, so that a disturbance of the machine meets them all. */
import type { Measured } from './result.ts';

export interface Subject {
  name: string;
  unit: string;
  run(): number | Promise<number>;
}

/** What a subject is held against, right before it in every round; `bound` is promised of the ratio. */
export interface Pair {
  floor: Subject;
  subject: Subject;
  bound?: number | null;
  boundIs?: 'most' | 'least';
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/** @param shares the same values over those of the floor, round by round */
export function summary(
  { name, unit }: Pick<Subject, 'name' | 'unit'>,
  values: readonly number[],
  floors: readonly number[],
): Measured {
  const shares = values.map((value, round) => value / floors[round]!);
  return {
    name,
    unit,
    median: quantile(values, 0.5),
    min: Math.min(...values),
    max: Math.max(...values),
    runs: values.length,
    floor: quantile(floors, 0.5),
    ratio: quantile(shares, 0.5),
    ratioSpread: [quantile(shares, 0.25), quantile(shares, 0.75)],
    bound: null,
  };
}

/** Each floor once, and each subject in the order given. @param rounds after one round that is not counted */
export async function measure(pairs: readonly Pair[], rounds: number): Promise<Measured[]> {
  const samples = pairs.map(() => ({ floors: [] as number[], values: [] as number[] }));
  for (let round = -1; round < rounds; round++) {
    for (const [index, { floor, subject }] of pairs.entries()) {
      const below = await floor.run();
      const value = await subject.run();
      if (round < 0) continue;
      samples[index]!.floors.push(below);
      samples[index]!.values.push(value);
    }
  }
  const floors = [...new Set(pairs.map(({ floor }) => floor))].map((floor) => {
    const values = samples.filter((_, index) => pairs[index]!.floor === floor).flatMap((sample) => sample.floors);
    return summary(floor, values, values);
  });
  const results = pairs.map(({ subject, bound = null, boundIs }, index) => {
    const { values, floors: below } = samples[index]!;
    return { ...summary(subject, values, below), bound, ...(boundIs === undefined ? {} : { boundIs }) };
  });
  return [...floors, ...results];
}
