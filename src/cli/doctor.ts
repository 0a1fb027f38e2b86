// SPDX-License-Identifier: Apache-2.0
/** vnicctl doctor. */
import { type Command, Option } from 'commander';
import type { Output } from '../api/client.ts';
import { contextOf } from './context.ts';
import { wholeNumberFrom } from './numbers.ts';
import { bold, green, red, yellow } from './output.ts';

type Diagnosis = Output<'diagnoseDevice'>;
type Finding = Diagnosis['findings'][number];

const MAX_QUEUES = 64;
/** Blocked: the exit code of preflight_refused. */
const EXIT_BLOCKED = 3;

export function modeOption(): Option {
  return new Option('--mode <mode>', 'native: in the driver; generic: in the stack, slower, on any device')
    .choices(['native', 'generic'])
    .default('native');
}

export function queuesOption(): Option {
  return new Option('--queues <number>', 'queues to use (default: all that the device has)').argParser(
    wholeNumberFrom(1, MAX_QUEUES),
  );
}

export interface DoctorOptions {
  mode: 'native' | 'generic';
  queues?: number;
}

export function doctorCommand(command: Command): void {
  command
    .argument('<device>', 'network device')
    .addOption(modeOption())
    .addOption(queuesOption())
    .action(async (device: string, options: DoctorOptions) => {
      const context = contextOf(command);
      const client = await context.client();
      const { data } = await client.call('diagnoseDevice', {
        params: { device: context.named(device) },
        query: { ...options },
      });
      const { mode, verdict: result, findings, redirect } = data;
      const choice = redirect === null || result === 'blocked' ? [] : [`--redirect auto  ${choiceText(redirect)}`];
      await context.print({ device, mode, verdict: result, findings, redirect }, () =>
        [findingsText(device, result, findings), ...choice].join('\n'),
      );
      if (result === 'blocked') process.exitCode = EXIT_BLOCKED;
    });
}

/** `cpumap, follow on trial: why`. */
export function choiceText({ mode, trial, reason }: NonNullable<Diagnosis['redirect']>): string {
  return `${mode}${trial === null ? '' : `, ${trial} on trial`}: ${reason}`;
}

const verdictTexts: Readonly<Record<Diagnosis['verdict'], string>> = {
  ok: green('ok: attaching will work.'),
  degraded: yellow('degraded: attaching will work, with the limits below.'),
  blocked: red('blocked: attaching would be refused.'),
};

const severityTexts: Readonly<Record<Finding['severity'], string>> = {
  blocks: red('blocks'),
  degrades: yellow('degrades'),
  info: 'info',
};

export function findingsText(device: string, result: Diagnosis['verdict'], findings: readonly Finding[]): string {
  const blocks = findings.map(({ severity, code, message, whoMustChange, remedy }) => {
    const lines = [`${severityTexts[severity]}  ${bold(code)}  ${message}`];
    if (remedy !== null) lines.push(`    ${whoMustChange === 'nobody' ? '' : `${whoMustChange}: `}${remedy}`);
    return lines.join('\n');
  });
  return [`${device}: ${verdictTexts[result]}`, ...blocks].join('\n');
}
