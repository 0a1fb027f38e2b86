// SPDX-License-Identifier: Apache-2.0
/** What a part of the benchmark is: it measures, and says what it found as figures, plots and answers to targets. */
import type { Native } from '../../src/loader/ffi/index.ts';
import type { Plot } from './plot.ts';
import type { Result } from './result.ts';
import type { Answer, TargetName } from './validation.ts';

export interface BenchContext {
  readonly native: Native;
  /** The checkout. */
  readonly root: string;
  /** The short form: fewer rounds and cases, the same promises, seconds instead of minutes. */
  readonly quick: boolean;
  /** How long each measurement of live traffic may take, or null: the part's own. */
  readonly seconds: number | null;
}

export interface PartOutput {
  results: readonly Result[];
  plots?: readonly Plot[];
  /** What was achieved of the targets that `validation.ts` lists. */
  validation?: Partial<Record<TargetName, Answer>>;
}

export interface Part {
  /** As in BENCH=name. */
  readonly name: string;
  /** What the figures are, and what they are held against. */
  readonly title: string;
  /** Digits behind the point. */
  readonly digits: number;
  /** QUICK=1 runs it; default true. */
  readonly inQuick?: boolean;
  /** It takes so long that only BENCH=name runs it; default false. */
  readonly onlyWhenNamed?: boolean;
  /** Throws where nothing could be measured. What this machine cannot show is a result without figures. */
  run(context: BenchContext): PartOutput | Promise<PartOutput>;
}
