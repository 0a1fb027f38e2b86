// SPDX-License-Identifier: Apache-2.0
/** vnicctl bench. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { type Command, Option } from 'commander';
import { VnicError } from '../errors.ts';
import { projectFile } from '../project.ts';
import { wholeNumberFrom } from './numbers.ts';

const MAX_SECONDS = 3600;

interface BenchOptions {
  duration?: number;
  tests: string;
  output: string;
  quick?: boolean;
}

/** By what they measure as well as by the part's name. */
const aliases: Readonly<Record<string, string>> = { all: '' };

export function benchCommand(command: Command): void {
  command
    .addOption(
      new Option(
        '--target <what>',
        'what is measured: the rig that the benchmark builds of namespaces, and nothing else',
      )
        .choices(['rig'])
        .default('rig'),
    )
    .option('--duration <seconds>', 'of each measurement that has one', wholeNumberFrom(1, MAX_SECONDS))
    .option('--tests <names>', 'parts with commas: latency, limiter, failover, packet, …', 'all')
    .option('--output <file>', 'JSON file or folder; the HTML report is beside it', 'out/bench')
    .option('--quick', 'the short form, about two minutes')
    .action(async (options: BenchOptions, self: Command) => {
      // The global option of that name is read first, wherever it stands.
      const given = self.parent?.getOptionValueSource('output') === 'cli';
      const output = given ? self.optsWithGlobals<BenchOptions>().output : options.output;
      process.exitCode = await bench(benchArguments({ ...options, output }));
    });
}

/** What the benchmark's own program is called with. */
export function benchArguments({ duration, tests, output, quick = false }: BenchOptions): string[] {
  const parts = tests.split(',').map((name) => aliases[name.trim()] ?? name.trim());
  return [
    ...parts.filter((name) => name !== ''),
    ...(duration === undefined ? [] : ['--seconds', String(duration)]),
    '--output',
    path.resolve(output),
    ...(quick ? ['--quick'] : []),
  ];
}

/** The program is in the checkout: it takes the rig and the compiled peers, which no package has. */
async function bench(args: readonly string[]): Promise<number> {
  const program = projectFile('test/bench/main.ts');
  if (!existsSync(program)) {
    throw new VnicError('not_found', 'The benchmark is not part of an installed vnicctl.', {
      remedy: 'Run it in a checkout of the sources: make bench, or bin/vnicctl bench.',
    });
  }
  const child = spawn(process.execPath, [program, ...args], { stdio: 'inherit' });
  const [code] = (await once(child, 'exit')) as [number | null];
  return code ?? 1;
}
