// SPDX-License-Identifier: Apache-2.0
/** vnicctl flows. */
import { type Command, Option } from 'commander';
import type { Output } from '../api/client.ts';
import { formatProtocol } from '../steering/rules/protocols.ts';
import { contextOf } from './context.ts';
import { wholeNumberFrom } from './numbers.ts';
import { bitRateText, bytesText, count, endpoint, red, secondsText, table, yellow } from './output.ts';

type Flow = Output<'listFlows'>['items'][number];

const DEFAULT_TOP = 20;
const MAX_TOP = 2 ** 26;

export function flowsCommand(command: Command): void {
  command
    .argument('[device]', 'network device (default: the only attached one)')
    .option('--top <number>', 'how many', wholeNumberFrom(1, MAX_TOP), DEFAULT_TOP)
    .addOption(
      new Option('--by <order>', 'what puts them in order').choices(['bytes', 'packets', 'rate']).default('bytes'),
    )
    .action(async (name: string | undefined, options: { top: number; by: 'bytes' | 'packets' | 'rate' }) => {
      const context = contextOf(command);
      const client = await context.client();
      const device = await context.device(name);
      const { data } = await client.call('listFlows', { params: { device }, query: options });
      const flows = data.items;
      await context.print(
        flows,
        () => `${device}: ${count(flows.length, 'flow')} by ${options.by}\n${flowsText(flows)}`,
      );
    });
}

export function verdictText(verdict: 'pass' | 'drop' | 'limit'): string {
  if (verdict === 'pass') return verdict;
  return verdict === 'drop' ? red(verdict) : yellow(verdict);
}

function flowsText(flows: readonly Flow[]): string {
  return table(flows, [
    { title: 'DIR', value: (flow) => (flow.direction === 'ingress' ? 'in' : 'out') },
    { title: 'PROTO', value: (flow) => String(formatProtocol(flow.proto)) },
    { title: 'SOURCE', value: (flow) => endpoint(flow.src, flow.srcPort) },
    { title: 'DESTINATION', value: (flow) => endpoint(flow.dst, flow.dstPort) },
    { title: 'PACKETS', value: (flow) => flow.packets },
    { title: 'BYTES', value: (flow) => bytesText(flow.bytes), align: 'right' },
    { title: 'RATE', value: (flow) => bitRateText(flow.bitsPerSecond), align: 'right' },
    { title: 'DROPPED', value: (flow) => flow.droppedPackets },
    { title: 'AGE', value: (flow) => secondsText(flow.ageSeconds), align: 'right' },
    { title: 'IDLE', value: (flow) => secondsText(flow.idleSeconds), align: 'right' },
    { title: 'QUEUE', value: (flow) => flow.queue },
    { title: 'AZ', value: (flow) => flow.az },
    { title: 'RULE', value: (flow) => flow.rule },
    { title: 'VERDICT', value: (flow) => verdictText(flow.verdict) },
  ]);
}
