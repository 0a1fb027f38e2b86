// SPDX-License-Identifier: Apache-2.0
/** vnicctl plan: what the failure or the recovery of an AZ would do. */
import type { Command } from 'commander';
import type { Output } from '../api/client.ts';
import { contextOf } from './context.ts';
import { deviceOption } from './device-option.ts';
import { bar, count, durationText, grouped, red, table, yellow } from './output.ts';

interface PlanOptions {
  az: string;
  recover?: boolean;
  force?: boolean;
  device?: string;
}

export function planCommand(command: Command): void {
  command
    .argument('[device]', 'network device')
    .requiredOption('--az <name>', 'the AZ that would fail')
    .option('--recover', 'the AZ would be recovered')
    .option('--force', 'also when few queues would be left')
    .addOption(deviceOption())
    .action(async (name: string | undefined, { device: option, ...body }: PlanOptions) => {
      const context = contextOf(command);
      const client = await context.client();
      const device = await context.device(name, option);
      const { data } = await client.call('planFailure', { params: { device }, body });
      await context.print(data, () => planText(data));
    });
}

type AzPlan = Output<'planFailure'>;
type QueuePlan = AzPlan['queues'][number];

const BAR_WIDTH = 24;

export function planText(plan: AzPlan): string {
  return [headOf(plan), timeOf(plan), queueTable(plan), ...warningsOf(plan)].filter((part) => part !== '').join('\n');
}

function headOf({ device, az, action, moved, flows, collateral, maxOverMean }: AzPlan): string {
  const event = action === 'fail' ? 'failed' : 'were recovered';
  const ofFlows = flows === null ? '' : ` and ${grouped(flows.moved)} of ${count(flows.known, 'flow')}`;
  const balance = `fullest queue ${maxOverMean.toFixed(3)} times its share`;
  return `${device}: if ${az} ${event}: ${count(moved, 'bucket')}${ofFlows} would move, ${collateral} collateral, ${balance}`;
}

function timeOf({ moved, planned, expectedDurationMs: { commit, settled } }: AzPlan): string {
  if (moved === 0) return '';
  const switched = `switched within ${durationText(commit * 1e6)}`;
  if (planned === 0) return `${switched}, all at once: their queues are lost`;
  const until = settled === null ? '' : `, expected to be through after ${durationText(settled * 1e6)}`;
  return `${switched}; ${count(planned, 'bucket')} in order, flow by flow${until}`;
}

/** Those that nothing changes for are left out. */
function queueTable({ queues, action }: AzPlan): string {
  const changed = queues.filter(
    ({ before, after, loadBeforePps, loadAfterPps }) => before !== after || loadBeforePps !== loadAfterPps,
  );
  if (changed.length === 0) return '';
  const most = Math.max(...changed.map(({ before, after }) => Math.max(before, after)), 1);
  const rows = table(changed, [
    { title: 'QUEUE', value: ({ queue }) => queue },
    { title: 'AZ', value: ({ az }) => az },
    { title: 'BEFORE', value: ({ before }) => before },
    {
      title: 'AFTER',
      value: ({ after }) => (after === 0 && action === 'fail' ? red('0') : grouped(after)),
      align: 'right',
    },
    { title: 'CHANGE', value: ({ before, after }) => signed(after - before), align: 'right' },
    { title: 'PPS NOW', value: ({ loadBeforePps }) => rate(loadBeforePps), align: 'right' },
    { title: 'PPS AFTER', value: ({ loadAfterPps }) => rate(loadAfterPps), align: 'right' },
    { title: '', value: ({ after }) => bar(after / most, BAR_WIDTH), align: 'left' },
  ]);
  const same = queues.length - changed.length;
  return same === 0 ? rows : `${rows}\nnothing changes for the other ${count(same, 'queue')}`;
}

function warningsOf({ breaches, collateral }: AzPlan): string[] {
  return [
    ...breaches.map(({ queue, loadPps, capacityPps }) => {
      const times = (loadPps / capacityPps).toFixed(2);
      return red(`queue ${queue} would be given ${rate(loadPps)} packets/s, ${times} times what it can take`);
    }),
    ...(collateral === 0 ? [] : [yellow(`${count(collateral, 'bucket')} would move without need`)]),
  ];
}

function rate(packetsPerSecond: QueuePlan['loadAfterPps']): string | null {
  return packetsPerSecond === null ? null : grouped(Math.round(packetsPerSecond));
}

function signed(change: number): string {
  return change > 0 ? `+${grouped(change)}` : grouped(change);
}
