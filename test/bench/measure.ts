// SPDX-License-Identifier: Apache-2.0
/** Interleaved measurement: every round runs each subject once, so that a disturbance of the machine meets them all. */

export interface Measurement {
  name: string;
  unit: string;
  median: number;
  min: number;
  max: number;
  runs: number;
  /** The floor's median in the same rounds. */
  floor: number;
  /** Median over the rounds of subject / floor. */
  ratio: number;
  /** Lower and upper quartile of the same. */
  ratioSpread: [number, number];
}

export interface Subject {
  name: string;
  unit: string;
  run(): number;
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/** @param rounds after one round that is not counted */
export function measure(floor: Subject, subjects: readonly Subject[], rounds: number): Measurement[] {
  const samples = new Map<Subject, number[]>([floor, ...subjects].map((subject) => [subject, []]));
  const ratios = new Map<Subject, number[]>(subjects.map((subject) => [subject, []]));
  for (let round = -1; round < rounds; round++) {
    for (const subject of subjects) {
      const below = floor.run();
      const value = subject.run();
      if (round < 0) continue;
      samples.get(floor)?.push(below);
      samples.get(subject)?.push(value);
      ratios.get(subject)?.push(value / below);
    }
  }
  const floorMedian = quantile(samples.get(floor) ?? [], 0.5);
  const summary = (subject: Subject, shares: readonly number[]): Measurement => {
    const values = samples.get(subject) ?? [];
    return {
      name: subject.name,
      unit: subject.unit,
      median: quantile(values, 0.5),
      min: Math.min(...values),
      max: Math.max(...values),
      runs: values.length,
      floor: floorMedian,
      ratio: quantile(shares, 0.5),
      ratioSpread: [quantile(shares, 0.25), quantile(shares, 0.75)],
    };
  };
  return [summary(floor, [1]), ...subjects.map((subject) => summary(subject, ratios.get(subject) ?? []))];
}
