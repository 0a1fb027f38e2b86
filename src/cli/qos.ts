// SPDX-License-Identifier: Apache-2.0
/** vnicctl qos: the protocol of QoS agents, `{"flow_id":1,"rate":10000}`: a rule's id and its rate in kbit/s. */
import type { Command } from 'commander';
import { contextOf } from './context.ts';
import { deviceOption } from './device-option.ts';
import { withProgress } from './progress.ts';
import { printChanges } from './rule-changes.ts';
import { readText } from './rule-file.ts';

export function qosCommand(command: Command): void {
  command
    .command('apply')
    .description('set the rates of rules from JSON lines, all or nothing')
    .argument('[file]', 'one {"flow_id":ID,"rate":KBIT_PER_SECOND} a line; - is stdin', '-')
    .addOption(deviceOption())
    .action(async (file: string, options: { device?: string }, inner: Command) => {
      const context = contextOf(inner);
      // A request has a body, also where there is nothing to set.
      const text = { content: `${await readText(file)}\n`, type: 'application/x-ndjson' };
      const client = await context.client();
      const device = await context.device(undefined, options.device);
      const { data } = await withProgress('setting rates', () =>
        client.call('applyQos', { params: { device }, query: { dryRun: context.dryRun }, text }),
      );
      await printChanges(context, data);
    });
}
