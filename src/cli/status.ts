// SPDX-License-Identifier: Apache-2.0
/** vnicctl status and queues. */
import type { Command } from 'commander';
import type { Output } from '../api/client.ts';
import { VnicError } from '../errors.ts';
import { azTable } from './az-table.ts';
import { type Context, contextOf } from './context.ts';
import { choiceText } from './doctor.ts';
import { bar, bytesText, count, durationText, pairs, red, table } from './output.ts';

type DeviceStatus = Output<'getDevice'>;
type QueueStatus = Output<'listQueues'>['items'][number];
/** Of the kernel: 64 bits. */
type Counter = number | bigint;

export function statusCommand(command: Command): void {
  command.argument('[device]', 'network device; without it all that are attached').action(async (name?: string) => {
    const context = contextOf(command);
    if (name !== undefined) {
      const status = await statusOf(context, context.named(name));
      await context.print(status, () => statusText(status));
      return;
    }
    await allStatuses(context);
  });
}

async function statusOf(context: Context, device: string): Promise<DeviceStatus> {
  return (await (await context.client()).call('getDevice', { params: { device } })).data;
}

/** One device that cannot be read does not hide the others: it is reported after them. */
async function allStatuses(context: Context): Promise<void> {
  const statuses: DeviceStatus[] = [];
  const failures: VnicError[] = [];
  for (const device of await context.devices('attached', 'failed')) {
    try {
      statuses.push(await statusOf(context, device));
    } catch (error) {
      if (!(error instanceof VnicError)) throw error;
      // Detached since it was listed.
      if (error.code !== 'not_found') failures.push(error);
    }
  }
  await context.print(statuses, () =>
    statuses.length === 0 && failures.length === 0 ? 'No device is attached.' : statuses.map(statusText).join('\n\n'),
  );
  const [first] = failures;
  if (first !== undefined) throw first;
}

function statusText(status: DeviceStatus): string {
  const { counters, latency, drift } = status;
  const drops = Object.entries(counters.drops).filter(([, packets]) => packets > 0);
  const unparsed = Object.entries(counters.unparsed);
  const list = (entries: [string, Counter][]): string =>
    entries.length === 0 ? 'none' : entries.map(([reason, packets]) => `${reason} ${packets}`).join(', ');
  const time = (ns: number | null): string => (ns === null ? '-' : durationText(ns));
  const steering = status.activeTable === null ? red('off: packets pass unsteered') : `on, table ${status.activeTable}`;
  const parts = [
    pairs([
      ['device', `${status.device} (${status.mode} XDP, egress ${status.egress}, interface ${status.ifindex})`],
      ['steering', `${steering}, ${count(status.queues, 'queue')}`],
      ['redirect', choiceText(status.redirect)],
      ['arrival', arrivalText(status.redirect)],
      ['rules', `${status.rules}, generation ${status.ruleGeneration}`],
      ['received', `${count(Number(counters.rxPackets), 'packet')}, ${bytesText(counters.rxBytes)}`],
      ['to their queue', `${count(Number(counters.redirected), 'packet')}, ${counters.notReceived} not taken yet`],
      ['dropped', list(drops)],
      ['unparsed', list(unparsed)],
      ['flows made', `${counters.flowsCreated}, ${counters.flowsEvicted} of others evicted for them`],
      [
        'latency',
        `p50 ${time(latency.p50Ns)}, p90 ${time(latency.p90Ns)}, p99 ${time(latency.p99Ns)}, p99.9 ${time(latency.p999Ns)}, of ${count(Number(latency.count), 'packet')} timed`,
      ],
    ]),
  ];
  if (status.azs.length > 0) parts.push(azTable(status.azs));
  for (const { what, spec, kernel } of drift) {
    parts.push(red(`drift: ${what}: asked for ${spec}, the kernel has ${kernel}`));
  }
  return parts.join('\n');
}

function arrivalText({ mode, device, ...packets }: DeviceStatus['redirect']): string {
  const { steeredPackets, missedPackets, directPackets, offCpuPackets } = packets;
  const share = (part: Counter): string =>
    Number(steeredPackets) === 0 ? '0 %' : `${((100 * Number(part)) / Number(steeredPackets)).toFixed(1)} %`;
  const onTheirs = Number(steeredPackets) - Number(missedPackets);
  const parts = [`${share(onTheirs)} of packets on their own queue, ${share(directPackets)} passed there`];
  if (mode !== 'cpumap' && Number(offCpuPackets) > 0)
    parts.push(`${share(offCpuPackets)} not on its CPU (vnicctl tune puts interrupts there)`);
  if (device !== null) {
    const says = `${device.obeyed} of ${device.flows} flows arrive where the device should send them`;
    parts.push(device.verdict === 'disobeys' ? red(says) : says);
  }
  return parts.join('; ');
}

const BAR_WIDTH = 24;

export function queuesCommand(command: Command): void {
  command.argument('[device]', 'network device (default: the only attached one)').action(async (name?: string) => {
    const context = contextOf(command);
    const client = await context.client();
    const device = await context.device(name);
    const { data } = await client.call('listQueues', { params: { device } });
    await context.print(data.items, () => queuesText(device, data.items));
  });
}

function queuesText(device: string, queues: readonly QueueStatus[]): string {
  const most = Math.max(...queues.map(({ steeredPackets }) => Number(steeredPackets)), 1);
  const total = queues.reduce((sum, { steeredPackets }) => sum + Number(steeredPackets), 0);
  const rows = table(queues, [
    { title: 'QUEUE', value: (queue) => queue.queue },
    { title: 'AZ', value: (queue) => queue.az },
    { title: 'CPU', value: (queue) => queue.cpu },
    { title: 'STATE', value: (queue) => (queue.usable ? 'up' : red('lost')) },
    { title: 'STEERED', value: (queue) => queue.steeredPackets },
    {
      title: '',
      value: (queue) => bar(Number(queue.steeredPackets) / most, BAR_WIDTH).padEnd(BAR_WIDTH),
      align: 'left',
    },
    {
      title: 'SHARE',
      value: (queue) => (total === 0 ? null : `${((100 * Number(queue.steeredPackets)) / total).toFixed(1)} %`),
      align: 'right',
    },
    { title: 'BYTES', value: (queue) => bytesText(queue.steeredBytes), align: 'right' },
    { title: 'RX', value: (queue) => queue.rxPackets },
    { title: 'MISSED', value: (queue) => queue.missedPackets },
    { title: 'OFF CPU', value: (queue) => queue.offCpuPackets },
    { title: 'DIRECT', value: (queue) => queue.directPackets },
    { title: 'DROPPED', value: (queue) => queue.droppedPackets },
    { title: 'TX', value: (queue) => queue.txPackets },
  ]);
  return `${device}: ${count(total, 'packet')} steered to ${count(queues.length, 'queue')}\n${rows}`;
}
