// SPDX-License-Identifier: Apache-2.0
/** vnicctl latency. */
import type { Command } from 'commander';
import type { Output } from '../api/client.ts';
import { contextOf } from './context.ts';
import { durationText, table } from './output.ts';

type Report = Output<'getLatency'>;
type Times = Report['toCpu'];

export function latencyCommand(command: Command): void {
  command
    .argument('[device]', 'network device (default: the only attached one)')
    .action(async (name: string | undefined) => {
      const context = contextOf(command);
      const client = await context.client();
      const device = await context.device(name);
      const { data } = await client.call('getLatency', { params: { device } });
      await context.print(data, () => latencyText(data));
    });
}

function latencyText({ device, toCpu, toSocket, rtt }: Report): string {
  const sockets = [
    { what: 'XDP entry to TCP socket', ...toSocket.tcp },
    { what: 'XDP entry to UDP socket', ...toSocket.udp },
  ];
  const rows: { what: string; times: Times }[] = [
    { what: 'XDP entry to CPU', times: toCpu },
    ...sockets.flatMap(({ what, value }) => (value === null ? [] : [{ what, times: value }])),
    ...rtt.azs
      .filter(({ az, rtt: times }) => az !== null || times.count > 0)
      .map(({ az, rtt: times }) => ({ what: `TCP round trip, ${az ?? 'no AZ'}`, times })),
  ];
  const parts = [`${device}: times since attach, of a sample of the packets`, latencyTable(rows)];
  const missing = Map.groupBy(
    sockets.filter(({ unavailable }) => unavailable !== null),
    ({ unavailable }) => unavailable,
  );
  for (const [reason, of] of missing) {
    parts.push(`${of.map(({ what }) => what).join(', ')}: not available: ${reason}.`);
  }
  if (rtt.remark !== null) parts.push(`TCP round trips: ${rtt.remark}.`);
  return parts.join('\n');
}

const time = (ns: number | null): string | null => (ns === null ? null : durationText(ns));

export function latencyTable(rows: readonly { what: string; times: Omit<Times, 'buckets'> }[]): string {
  return table(rows, [
    { title: 'TIME', value: ({ what }) => what },
    { title: 'MEAN', value: ({ times }) => time(times.meanNs), align: 'right' },
    { title: 'P50', value: ({ times }) => time(times.p50Ns), align: 'right' },
    { title: 'P90', value: ({ times }) => time(times.p90Ns), align: 'right' },
    { title: 'P99', value: ({ times }) => time(times.p99Ns), align: 'right' },
    { title: 'P99.9', value: ({ times }) => time(times.p999Ns), align: 'right' },
    { title: 'TIMED', value: ({ times }) => times.count },
  ]);
}
