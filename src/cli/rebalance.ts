// SPDX-License-Identifier: Apache-2.0
/** vnicctl rebalance. */
import type { Command } from 'commander';
import type { Output } from '../api/client.ts';
import { contextOf } from './context.ts';
import { type DeviceOption, deviceOption } from './device-option.ts';
import { positiveNumber } from './numbers.ts';
import { count, durationText, secondsText, table } from './output.ts';

interface RebalanceOptions extends DeviceOption {
  threshold?: number;
  maxOverMean?: number;
  minGain?: number;
  force?: boolean;
}

export function rebalanceCommand(command: Command): void {
  command
    .argument('[device]', 'network device')
    .option('--threshold <ratio>', 'move nothing while no queue has more of its fair load than this', positiveNumber)
    .option('--max-over-mean <ratio>', 'what is aimed at', positiveNumber)
    .option('--min-gain <ratio>', 'move nothing for a smaller gain', positiveNumber)
    .option('--force', 'also while the last one is not long ago')
    .addOption(deviceOption())
    .action(async (name: string | undefined, { force, device, ...ratios }: RebalanceOptions) => {
      const context = contextOf(command);
      const client = await context.client();
      const params = { device: await context.device(name, device) };
      const body = { ...ratios, ...(force === undefined ? {} : { force }) };
      const query = { dryRun: context.dryRun };
      const { data } = await client.call('rebalanceDevice', { params, query, body });
      await context.print(data, () => rebalanceText(data));
    });
}

type Rebalance = Output<'rebalanceDevice'>;

const MOST_LINES = 20;

export function rebalanceText(change: Rebalance): string {
  const { device, performed, moved, moves, before, after, reached, commitNs } = change;
  if (moved === 0) return `${device}: nothing moved: ${whyNot(change)}`;
  const what = `${count(moved, 'bucket')} ${performed ? 'moved' : 'would move'}`;
  const ratios = `fullest queue from ${before.toFixed(3)} to ${after.toFixed(3)} times its fair load`;
  const rest = reached ? '' : ', which is as far as whole buckets go';
  const time = commitNs === null ? '' : `, switched in ${durationText(commitNs)}`;
  const largest = moves.toSorted((a, b) => b.buckets - a.buckets).slice(0, MOST_LINES);
  const more = moves.length > largest.length ? `\nand ${moves.length - largest.length} more; see -o json` : '';
  const rows = table(largest, [
    { title: 'FROM', value: ({ from }) => from },
    { title: 'TO', value: ({ to }) => to },
    { title: 'BUCKETS', value: ({ buckets }) => buckets },
  ]);
  return `${device}: ${what}, ${ratios}${rest}${time}\n${rows}${more}`;
}

function whyNot({ reason, before, after, coolDownLeftMs }: Rebalance): string {
  const now = `the fullest queue has ${before.toFixed(3)} times its fair load`;
  switch (reason) {
    case 'no_load':
      return 'no load was measured';
    case 'balanced':
      return `${now}, which is below the threshold`;
    case 'cool_down':
      return `${now}, but the last time was not long ago: wait ${secondsText((coolDownLeftMs ?? 0) / 1000)}, or use --force`;
    case 'below_min_gain':
      return `${now}, and moves would bring it to ${after.toFixed(3)} at best`;
    case 'moved':
      return now;
  }
}
