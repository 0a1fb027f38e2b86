// SPDX-License-Identifier: Apache-2.0
/** vnicctl tune. */
import type { Command } from 'commander';
import type { Call, Output } from '../api/client.ts';
import { formatDevice } from '../config/device.ts';
import { readConfigFile } from '../config/file.ts';
import { VnicError } from '../errors.ts';
import { formatCpuList } from '../loader/cpu-set.ts';
import { deviceOf } from './attach.ts';
import { type Context, contextOf } from './context.ts';
import { count, table } from './output.ts';

interface TuneOptions {
  plan?: boolean;
  apply?: boolean;
  restore?: boolean;
  force?: boolean;
  config?: string;
}

export function tuneCommand(command: Command): void {
  command
    .argument('<device>', 'network device')
    .option('--plan', 'print what would be set, and why (the default)')
    .option('--apply', 'set it; what was there before is kept')
    .option('--restore', 'put back what was there before')
    .option('--force', 'with --restore: also where somebody else has changed it since')
    .option('--config <file>', 'for a device that is not attached (default: what is recorded of it)')
    .action(async (name: string, options: TuneOptions) => {
      const { plan = false, apply = false, restore = false, force, config: file } = options;
      if (Number(plan) + Number(apply) + Number(restore) > 1) {
        throw new VnicError('usage', '--plan, --apply and --restore exclude each other.', { remedy: 'Give one.' });
      }
      if ((force === true && !restore) || (file !== undefined && restore)) {
        throw new VnicError('usage', '--force goes with --restore, and --config with the others.', {
          remedy: 'See: vnicctl tune --help',
        });
      }
      const context = contextOf(command);
      const params = { device: context.named(name) };
      if (restore) {
        await (context.dryRun ? showHeld(context, params) : restoreAll(context, params, force));
        return;
      }
      const body = file === undefined ? {} : await bodyOf(file, name);
      const client = await context.client();
      const query = { dryRun: !apply || context.dryRun };
      const { data } = await client.call('applyTuning', { params, query, body });
      for (const { text } of data.notes) context.note(text);
      for (const foreign of data.foreign) context.warn(foreignText(foreign));
      if (data.interrupted)
        context.warn('A process died while it was setting these: --apply goes on, --restore undoes.');
      await context.print(data, () => tuneText(data));
    });
}

interface Params {
  device: string;
}

async function restoreAll(context: Context, params: Params, force: boolean | undefined): Promise<void> {
  const { data } = await (await context.client()).call('restoreTuning', { params, query: { force } });
  const { device, restored, foreign, failed } = data;
  await context.print(data, () => `${device}: ${count(restored.length, 'setting')} put back`);
  if (foreign.length === 0 && failed.length === 0) return;
  for (const setting of foreign) context.warn(`left: ${foreignText(setting)}`);
  for (const { message } of failed) context.warn(message);
  if (failed.length > 0) {
    throw new VnicError('failed', `${count(failed.length, 'setting')} could not be put back.`, {
      remedy: `Mend what is named above, then again: vnicctl tune ${device} --restore`,
    });
  }
  throw new VnicError('conflict', `Somebody else has changed ${count(foreign.length, 'setting')} since: left.`, {
    remedy: `Set it by hand where it should be otherwise.`,
  });
}

async function showHeld(context: Context, params: Params): Promise<void> {
  const { data } = await (await context.client()).call('getTuning', { params });
  const tuned = data.held.filter(({ by }) => by.includes('tune'));
  for (const foreign of data.foreign) context.warn(foreignText(foreign));
  await context.print(data, () =>
    [
      `${data.device}: would put back ${count(tuned.length, 'setting')}`,
      ...(tuned.length === 0
        ? []
        : [
            table(tuned, [
              { title: 'SETTING', value: ({ name }) => name },
              { title: 'NOW', value: ({ now }) => valueText(now), align: 'left' },
              { title: 'BEFORE', value: ({ before }) => valueText(before), align: 'left' },
            ]),
          ]),
    ].join('\n'),
  );
}

async function bodyOf(file: string, name: string): Promise<NonNullable<Call<'applyTuning'>['body']>> {
  const device = formatDevice(deviceOf(await readConfigFile(file), file, name));
  const { num_queues, numa_node, coalesce_usecs, enable_numa_aware, adaptive_coalesce } = device;
  return {
    ...(num_queues === undefined ? {} : { num_queues }),
    numa_node,
    coalesce_usecs,
    enable_numa_aware,
    adaptive_coalesce,
  };
}

type Planned = Output<'applyTuning'>['settings'][number];

function foreignText({ name, expected, now }: Output<'applyTuning'>['foreign'][number]): string {
  return `${name} was set to ${valueText(expected)}, but somebody has set it to ${valueText(now)} since.`;
}

function valueText(value: string | null): string {
  if (value === null) return '-';
  if (value === '') return 'none';
  return shortTable(value) ?? value;
}

/** An RSS table has 128 queues and more. */
function shortTable(value: string): string | null {
  const queues = value.split(',').map(Number);
  if (queues.length < 16 || value.includes('-')) return null;
  const used = [...new Set(queues)].sort((a, b) => a - b);
  const isEven = queues.every((queue, index) => queue === used[index % used.length]);
  return `${queues.length} entries, ${isEven ? 'evenly' : 'unevenly'} over ${formatCpuList(used)}`;
}

export function tuneText({ device, performed, settings }: Output<'applyTuning'>): string {
  if (settings.length === 0) return `${device}: nothing to set: everything is as it should be`;
  const rows = table(grouped(settings), [
    { title: 'SETTING', value: ({ name }) => name },
    { title: 'FROM', value: ({ from }) => valueText(from), align: 'left' },
    { title: 'TO', value: ({ to }) => valueText(to), align: 'left' },
    { title: 'WHY', value: ({ why }) => why },
  ]);
  return `${device}: ${performed ? 'set' : 'would set'} ${count(settings.length, 'setting')}\n${rows}`;
}

/** Settings of several queues that change alike are one row: tx-[0-31]/xps_cpus. */
export function grouped(settings: readonly Planned[]): Planned[] {
  const groups = new Map<string, { first: Planned; numbers: number[] }>();
  for (const setting of settings) {
    const number = /^[a-z]+-(\d+)\//.exec(setting.name)?.[1];
    const kind = number === undefined ? setting.name : setting.name.replace(`-${number}/`, '-/');
    const key = JSON.stringify([kind, setting.from, setting.to, setting.why]);
    const group = groups.get(key) ?? { first: setting, numbers: [] };
    if (number !== undefined) group.numbers.push(Number(number));
    groups.set(key, group);
  }
  return [...groups.values()].map(({ first, numbers }) =>
    numbers.length < 2 ? first : { ...first, name: first.name.replace(/-\d+\//, `-[${formatCpuList(numbers)}]/`) },
  );
}
