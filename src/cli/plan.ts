// SPDX-License-Identifier: Apache-2.0
/** vnicctl plan: what the failure of an AZ would do. */
import type { Command } from 'commander';
import { deviceText } from '../loader/pins.ts';
import type { PlanResult } from '../steering/planner.ts';
import { noQueue } from '../steering/table.ts';
import { summaryFields } from './az.ts';
import { contextOf } from './context.ts';
import { bar, count, grouped, red, table } from './output.ts';
import { deviceOption } from './rule.ts';

interface QueuePlan {
  queue: number;
  /** Buckets in all rows that the queue appears in. */
  before: number;
  after: number;
}

interface MoveCount {
  from: number | null;
  to: number | null;
  buckets: number;
}

export function planCommand(command: Command): void {
  command
    .argument('[device]', 'network device')
    .requiredOption('--az <name>', 'the AZ that would fail')
    .option('--force', 'also when few queues would be left')
    .addOption(deviceOption())
    .action(async (name: string | undefined, options: { az: string; force?: boolean; device?: string }) => {
      const context = contextOf(command);
      const device = context.device(name, options.device);
      const { plan, azs } = context.controller.withDevice(device, (attached) => ({
        plan: attached.planFailure(options.az, options.force),
        azs: attached.queues().map(({ az }) => az),
      }));
      const data = {
        device: deviceText(device),
        az: options.az,
        ...summaryFields(plan.summary),
        queues: queuePlans(plan).map((queue) => ({ ...queue, az: azs[queue.queue] ?? null })),
        moves: moveCounts(plan),
      };
      await context.print(data, () => planText(data));
    });
}

function queuePlans({ summary }: PlanResult): QueuePlan[] {
  const plans = new Map<number, QueuePlan>();
  for (const { queue, before, after } of summary.rows.flatMap((row) => row.queues)) {
    const known = plans.get(queue) ?? { queue, before: 0, after: 0 };
    plans.set(queue, { queue, before: known.before + before, after: known.after + after });
  }
  return [...plans.values()];
}

function moveCounts({ moves }: PlanResult): MoveCount[] {
  const counts = new Map<string, MoveCount>();
  const orNull = (queue: number): number | null => (queue === noQueue ? null : queue);
  for (const { from, to } of moves) {
    const key = `${from} ${to}`;
    const known = counts.get(key) ?? { from: orNull(from), to: orNull(to), buckets: 0 };
    known.buckets++;
    counts.set(key, known);
  }
  return [...counts.values()];
}

const BAR_WIDTH = 24;

function planText(data: {
  device: string;
  az: string;
  moved: number;
  collateral: number;
  maxOverMean: number;
  queues: (QueuePlan & { az: string | null })[];
}): string {
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
