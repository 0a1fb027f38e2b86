// SPDX-License-Identifier: Apache-2.0
/** What the benchmark is asked to do, from the environment (make) or the command line (vnicctl bench). Pure. */
import { parseArgs } from 'node:util';
import type { Part } from './part.ts';

export interface BenchOptions {
  /** Names of the parts to run, in the registry's order. */
  parts: readonly string[];
  quick: boolean;
  /** The short form with all its parts. */
  isWholeQuick: boolean;
  seconds: number | null;
  /** Folder, or a file that ends in .json; the report is beside it. */
  output: string;
}

/** Throws an Error that says what is wrong; nothing is measured then. */
export function readOptions(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  known: readonly Part[],
): BenchOptions {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: environment['QUICK'] === '1' },
      seconds: { type: 'string' },
      output: { type: 'string', default: 'out/bench' },
    },
  });
  const names = known.map(({ name }) => name);
  const asked = positionals.flatMap((text) => text.split(',')).filter((name) => name !== '');
  const unknown = asked.filter((name) => !names.includes(name));
  if (unknown.length > 0)
    throw new Error(`There is no benchmark ${unknown.join(', ')}; there are ${names.join(', ')}.`);
  const seconds = values.seconds === undefined ? null : Number(values.seconds);
  if (seconds !== null && !(seconds >= 1 && seconds <= 3600)) {
    throw new Error(`--seconds is a number from 1 to 3600, not ${values.seconds}.`);
  }
  const usual = known
    .filter(({ inQuick = true, onlyWhenNamed = false }) => !onlyWhenNamed && (inQuick || !values.quick))
    .map(({ name }) => name);
  return {
    parts: asked.length > 0 ? names.filter((name) => asked.includes(name)) : usual,
    quick: values.quick,
    isWholeQuick: values.quick && asked.length === 0,
    seconds,
    output: values.output,
  };
}
