// SPDX-License-Identifier: Apache-2.0
/** vnicctl apply. */
import type { Command } from 'commander';
import type { Output } from '../api/client.ts';
import { contextOf } from './context.ts';
import { type DeviceOption, deviceOption } from './device-option.ts';
import { count } from './output.ts';

export function applyCommand(command: Command): void {
  command
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (name: string | undefined, options: DeviceOption) => {
      const context = contextOf(command);
      const client = await context.client();
      const device = await context.device(name, options.device);
      const { data } = await client.call('mendDevice', { params: { device }, query: { dryRun: context.dryRun } });
      await context.print(data, () => mendText(data));
    });
}

function mendText({ device, performed, drift, actions }: Output<'mendDevice'>): string {
  if (drift.length + actions.length === 0) return `${device}: the kernel has what was asked for`;
  return [
    `${device}: ${count(drift.length, 'difference')}${performed ? ', mended' : ''}`,
    ...drift.map(({ what, spec, kernel }) => `  drift: ${what}: asked for ${spec}, the kernel has ${kernel}`),
    ...actions.map((action) => `  ${performed ? 'done' : 'would'}: ${action}`),
  ].join('\n');
}
