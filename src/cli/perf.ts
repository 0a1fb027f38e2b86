// SPDX-License-Identifier: Apache-2.0
/** vnicctl perf. */
import type { Command } from 'commander';
import type { Output } from '../api/client.ts';
import { VnicError } from '../errors.ts';
import { type ComparedFigure, comparePerf } from '../telemetry/perf/compare.ts';
import { type Figure, type PerfRates, perfRates } from '../telemetry/perf/rates.ts';
import { contextOf } from './context.ts';
import { wholeNumberFrom } from './numbers.ts';
import { count, grouped, table, yellow } from './output.ts';
import { waitFor } from './progress.ts';
import { readText } from './rule-file.ts';

type PerfReport = Output<'getPerf'>;
type Measurement = PerfRates & { device: string };

interface PerfOptions {
  seconds: number;
  skipRunTimes?: boolean;
  compare?: string;
}

const MAX_SECONDS = 3600;

export function perfCommand(command: Command): void {
  command
    .argument('[device]', 'network device (default: the only attached one)')
    .option('--seconds <number>', 'how long to measure', wholeNumberFrom(1, MAX_SECONDS), 1)
    .option('--skip-run-times', 'do not have the kernel time programs: that adds to what a packet costs')
    .option('--compare <file>', 'hold it against a measurement that was kept with -o json')
    .action(async (name: string | undefined, { seconds, skipRunTimes = false, compare }: PerfOptions) => {
      const context = contextOf(command);
      const earlier = compare === undefined ? null : await readMeasurement(compare);
      const client = await context.client();
      const device = await context.device(name);
      const report = async (): Promise<PerfReport> => (await client.call('getPerf', { params: { device } })).data;
      const counting = skipRunTimes ? { refusal: 'run times were not asked for', end: () => {} } : await countRuns();
      try {
        const before = await report();
        await waitFor(seconds, 'measuring');
        const after = await report();
        const rates = perfRates(before, after, counting.refusal);
        if (earlier === null) await context.print({ device, ...rates }, () => ratesText(device, rates));
        else {
          const figures = comparePerf(earlier, rates);
          const data = { device, before: earlier, after: { device, ...rates }, figures };
          await context.print(data, () => comparisonText(earlier, device, rates, figures));
        }
      } finally {
        counting.end();
      }
    });
}

async function readMeasurement(file: string): Promise<Measurement> {
  const { parseMeasurement } = await import('./perf-file.ts');
  return parseMeasurement(await readText(file), file);
}

/** Has the kernel count runs of programs for as long as this takes. */
async function countRuns(): Promise<{ refusal: string; end: () => void }> {
  const { countProgramRunsHere } = await import('../app/environment.ts');
  try {
    const stats = countProgramRunsHere();
    return { refusal: '', end: () => stats.close() };
  } catch (error) {
    if (!(error instanceof VnicError)) throw error;
    return { refusal: `the kernel does not count runs: ${error.message}`, end: () => {} };
  }
}

/** Reasons are numbered below the tables: in cells they would be wider than a terminal. */
class Notes {
  readonly #reasons: string[] = [];

  cell({ value, unavailable }: Figure, digits = 1): string {
    if (value !== null) return grouped(Number(value.toFixed(digits)));
    return this.mark('not available', unavailable ?? '');
  }

  mark(text: string, reason: string): string {
    if (!this.#reasons.includes(reason)) this.#reasons.push(reason);
    return yellow(`${text} [${this.#reasons.indexOf(reason) + 1}]`);
  }

  text(): string {
    return this.#reasons.map((reason, index) => `[${index + 1}] ${reason}`).join('\n');
  }
}

function ratesText(device: string, { seconds, packets, events, programs, traces }: PerfRates): string {
  const notes = new Notes();
  const share = (countedShare: number | null): string =>
    countedShare === null || countedShare === 1
      ? ''
      : notes.mark(
          `${(100 * countedShare).toFixed(0)} % counted`,
          'events shared a hardware counter: each was counted for a part of the time and is extrapolated to all of it',
        );
  const eventTable = table(events, [
    { title: 'EVENT', value: ({ event }) => event },
    { title: 'PER SECOND', value: ({ perSecond }) => notes.cell(perSecond), align: 'right' },
    { title: 'PER PACKET', value: ({ perPacket }) => notes.cell(perPacket, 3), align: 'right' },
    { title: '', value: ({ countedShare }) => share(countedShare), align: 'left' },
  ]);
  const programTable = table(
    programs.filter(({ runsPerSecond }) => runsPerSecond.value !== 0),
    [
      { title: 'PROGRAM', value: ({ program }) => program },
      { title: 'RUNS PER SECOND', value: ({ runsPerSecond }) => notes.cell(runsPerSecond), align: 'right' },
      { title: 'NS PER RUN', value: ({ nsPerRun }) => notes.cell(nsPerRun), align: 'right' },
      { title: 'NS PER PACKET', value: ({ nsPerPacket }) => notes.cell(nsPerPacket), align: 'right' },
    ],
  );
  const traceTable = table(traces, [
    { title: 'ON THE WAY', value: ({ name }) => name },
    { title: 'PER SECOND', value: ({ perSecond }) => notes.cell(perSecond), align: 'right' },
  ]);
  const head = `${device}: ${count(packets.received, 'packet')} in ${seconds.toFixed(1)} s, ${grouped(packets.steered)} steered, ${grouped(packets.dropped)} dropped`;
  const scope = 'Events are those of all CPUs, whatever ran on them.';
  return [head, scope, eventTable, programTable, traceTable, notes.text()].filter((part) => part !== '').join('\n\n');
}

function comparisonText(
  before: Measurement,
  device: string,
  after: PerfRates,
  figures: readonly ComparedFigure[],
): string {
  const notes = new Notes();
  const change = ({ value, unavailable }: Figure): string => {
    if (value === null) return notes.mark('-', unavailable ?? '');
    return `${value > 0 ? '+' : ''}${(100 * value).toFixed(1)} %`;
  };
  const ofPackets = ({ packets, seconds }: PerfRates): string =>
    `${count(packets.received, 'packet')} in ${seconds.toFixed(1)} s`;
  const rows = table(figures, [
    { title: 'WHAT', value: ({ name, unit }) => `${name}, ${unit}` },
    { title: 'BEFORE', value: ({ before: figure }) => notes.cell(figure, 3), align: 'right' },
    { title: 'AFTER', value: ({ after: figure }) => notes.cell(figure, 3), align: 'right' },
    { title: 'CHANGE', value: (figure) => change(figure.change), align: 'right' },
  ]);
  const head = `before: ${before.device}, ${ofPackets(before)}\nafter:  ${device}, ${ofPackets(after)}`;
  return [head, 'Events are those of all CPUs, whatever ran on them.', rows, notes.text()]
    .filter((part) => part !== '')
    .join('\n\n');
}
