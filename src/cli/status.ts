// SPDX-License-Identifier: Apache-2.0
/** vnicctl status and queues. */
import type { Command } from 'commander';
import type { AttachedDevice, DeviceStatus } from '../app/attached-device.ts';
import { VnicError } from '../errors.ts';
import { type DeviceId, deviceText } from '../loader/pins.ts';
import { azTable, azView } from './az-view.ts';
import { type Context, contextOf } from './context.ts';
import { bar, bytesText, count, durationText, pairs, red, table } from './output.ts';

export function statusCommand(command: Command): void {
  command.argument('[device]', 'network device; without it all that are attached').action(async (name?: string) => {
    const context = contextOf(command);
    if (name !== undefined) {
      const status = context.controller.withDevice(context.named(name), (device) => device.status());
      await context.print(statusView(status), () => statusText(status));
      return;
    }
    await allStatuses(context);
  });
}

/** One device that cannot be read does not hide the others: it is reported after them. */
async function allStatuses(context: Context): Promise<void> {
  const devices = context.controller.locked(() => context.attachedDevices());
  const statuses: DeviceStatus[] = [];
  const failures: VnicError[] = [];
  for (const device of devices) {
    try {
      statuses.push(context.controller.withDevice(device, (attached) => attached.status()));
    } catch (error) {
      if (!(error instanceof VnicError)) throw error;
      // Detached since it was listed.
      if (error.code !== 'not_found') failures.push(error);
    }
  }
  await context.print(statuses.map(statusView), () =>
    statuses.length === 0 && failures.length === 0 ? 'No device is attached.' : statuses.map(statusText).join('\n\n'),
  );
  const [first] = failures;
  if (first !== undefined) throw first;
}

function statusView(status: DeviceStatus) {
  return { ...status, azs: status.azs.map(azView) };
}

function statusText(status: DeviceStatus): string {
  const { counters, latency, drift } = status;
  const drops = Object.entries(counters.drops).filter(([, packets]) => packets > 0n);
  const unparsed = Object.entries(counters.unparsed);
  const list = (entries: [string, bigint][]): string =>
    entries.length === 0 ? 'none' : entries.map(([reason, packets]) => `${reason} ${packets}`).join(', ');
  const time = (ns: number | null): string => (ns === null ? '-' : durationText(ns));
  const steering = status.activeTable === null ? red('off: packets pass unsteered') : `on, table ${status.activeTable}`;
  const parts = [
    pairs([
      ['device', `${status.device} (${status.mode} XDP, egress ${status.egress}, interface ${status.ifindex})`],
      ['steering', `${steering}, ${count(status.queues, 'queue')}`],
      ['rules', `${status.rules}, generation ${status.ruleGeneration}`],
      ['received', `${count(Number(counters.rxPackets), 'packet')}, ${bytesText(counters.rxBytes)}`],
      ['to their queue', `${count(Number(counters.redirected), 'packet')}, ${counters.notReceived} not taken yet`],
      ['dropped', list(drops)],
      ['unparsed', list(unparsed)],
      ['flows made', `${counters.flowsCreated}, ${counters.flowsEvicted} of others evicted for them`],
      [
        'latency',
        `p50 ${time(latency.p50Ns)}, p99 ${time(latency.p99Ns)}, of ${count(Number(latency.count), 'packet')} timed`,
      ],
    ]),
  ];
  if (status.azs.length > 0) parts.push(azTable(status.azs.map(azView)));
  for (const { what, spec, kernel } of drift) {
    parts.push(red(`drift: ${what}: asked for ${spec}, the kernel has ${kernel}`));
  }
  return parts.join('\n');
}

const BAR_WIDTH = 24;

export function queuesCommand(command: Command): void {
  command.argument('[device]', 'network device (default: the only attached one)').action(async (name?: string) => {
    const context = contextOf(command);
    const device: DeviceId = context.device(name);
    const queues = context.controller.withDevice(device, (attached) => attached.queues());
    await context.print(queues, () => queuesText(deviceText(device), queues));
  });
}

function queuesText(device: string, queues: ReturnType<AttachedDevice['queues']>): string {
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
    { title: 'DROPPED', value: (queue) => queue.droppedPackets },
    { title: 'TX', value: (queue) => queue.txPackets },
  ]);
  return `${device}: ${count(total, 'packet')} steered to ${count(queues.length, 'queue')}\n${rows}`;
}
