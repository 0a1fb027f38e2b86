// SPDX-License-Identifier: Apache-2.0
/** `make bench`, `make bench BENCH=packet`: exit code 1 when something promised is missed. */
import path from 'node:path';
import { Progress } from '../../src/cli/progress.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { describeMachine } from './machine.ts';
import { type BenchOptions, readOptions } from './options.ts';
import type { BenchContext } from './part.ts';
import { parts } from './parts.ts';
import { printPart, printValidation } from './print.ts';
import { unknownBounds } from './quick-bounds.ts';
import { type Results, writeReport } from './report.ts';
import { isMissed, runPart } from './run-part.ts';
import { overallScore, validate } from './validation.ts';

const root = path.join(import.meta.dirname, '../..');

async function bench(options: BenchOptions): Promise<boolean> {
  const native = loadNative();
  const context: BenchContext = { native, root, quick: options.quick, seconds: options.seconds };
  const results: Results = {
    ...(await describeMachine(native.libbpf.libbpf_version_string(), options)),
    parts: {},
    plots: {},
    validation: {},
    overall_score: null,
  };
  let answers = {};
  using progress = new Progress('bench');
  for (const part of parts.filter(({ name }) => options.parts.includes(name))) {
    const startMs = performance.now();
    progress.showNow(`bench ${part.name}`);
    const output = await runPart(part, context);
    progress.clear();
    results.parts[part.name] = output.results;
    results.plots[part.name] = output.plots ?? [];
    answers = { ...answers, ...output.validation };
    printPart(part, output.results);
    console.log(`  (${((performance.now() - startMs) / 1000).toFixed(0)} s)`);
  }
  results.validation = validate(answers, options.parts);
  results.overall_score = overallScore(results.validation);
  printValidation(results.validation, results.overall_score);
  const written = writeReport(results, parts, path.resolve(root, options.output));
  console.log(`Written: ${written.map((file) => path.relative(process.cwd(), file)).join(', ')}`);
  const all = Object.values(results.parts).flat();
  const missed = all.filter(isMissed);
  for (const { name } of missed) console.log(`missed: ${name}`);
  const lost = options.isWholeQuick ? unknownBounds(new Set(all.map(({ name }) => name))) : [];
  for (const name of lost) console.log(`there is a bound in quick-bounds.ts and no figure: ${name}`);
  return missed.length === 0 && lost.length === 0;
}

let options: BenchOptions;
try {
  options = readOptions(process.argv.slice(2), process.env, parts);
} catch (error) {
  console.error((error as Error).message);
  process.exit(2);
}
if (!(await bench(options))) process.exitCode = 1;
