// SPDX-License-Identifier: Apache-2.0
/** vnicctl plan: what the failure of an AZ would do. */
import type { Command } from 'commander';
import type { Output } from '../api/client.ts';
import { contextOf } from './context.ts';
import { deviceOption } from './device-option.ts';
import { bar, count, grouped, red, table } from './output.ts';

export function planCommand(command: Command): void {
  command
    .argument('[device]', 'network device')
    .requiredOption('--az <name>', 'the AZ that would fail')
    .option('--force', 'also when few queues would be left')
    .addOption(deviceOption())
    .action(async (name: string | undefined, options: { az: string; force?: boolean; device?: string }) => {
      const context = contextOf(command);
      const client = await context.client();
      const device = await context.device(name, options.device);
      const { az, force } = options;
      const body = { az, ...(force === undefined ? {} : { force }) };
      const { data } = await client.call('planFailure', { params: { device }, body });
      await context.print(data, () => planText(data));
    });
}

const BAR_WIDTH = 24;

function planText(data: Output<'planFailure'>): string {
  const most = Math.max(...data.queues.map(({ before, after }) => Math.max(before, after)), 1);
  const rows = table(data.queues, [
    { title: 'QUEUE', value: ({ queue }) => queue },
    { title: 'AZ', value: ({ az }) => az },
    { title: 'BEFORE', value: ({ before }) => before },
    { title: 'AFTER', value: ({ after }) => (after === 0 ? red('0') : grouped(after)), align: 'right' },
    { title: 'CHANGE', value: ({ before, after }) => signed(after - before), align: 'right' },
    { title: '', value: ({ after }) => bar(after / most, BAR_WIDTH), align: 'left' },
  ]);
  const { device, az, moved, collateral, maxOverMean } = data;
  const head = `${device}: if ${az} failed: ${count(moved, 'bucket')} would move, ${collateral} collateral, fullest queue ${maxOverMean.toFixed(3)} times its share`;
  return `${head}\n${rows}`;
}

function signed(change: number): string {
  return change > 0 ? `+${change}` : String(change);
}
