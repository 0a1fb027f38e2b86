// SPDX-License-Identifier: Apache-2.0
/** vnicctl attach and detach. */
import { type Command, Option } from 'commander';
import type { Call, Output } from '../api/client.ts';
import { type DeviceConfig, formatDevice } from '../config/device.ts';
import { readConfigFile } from '../config/file.ts';
import { VnicError } from '../errors.ts';
import { VnicLimits } from '../maps/generated/abi.ts';
import { contextOf } from './context.ts';
import { type DoctorOptions, modeOption, queuesOption } from './doctor.ts';
import { wholeNumberFrom } from './numbers.ts';
import { count } from './output.ts';

const MAX_FLOWS = 2 ** 26;

type AttachBody = NonNullable<Call<'attachDevice'>['body']>;
type AttachResult = Output<'attachDevice'>;

interface AttachOptions extends DoctorOptions {
  config?: string;
  egress?: AttachBody['egress'];
  maxFlows?: number;
  maxRules?: number;
  deliverMetadata?: boolean;
}

export function attachCommand(command: Command): void {
  command
    .argument('<device>', 'network device')
    .option('--config <file>', 'AZs and rules (YAML or JSON); without it those of before a reboot, if any')
    .addOption(modeOption())
    .addOption(queuesOption())
    .addOption(
      new Option('--egress <hook>', 'how the egress program is attached (default: tcx from Linux 6.6 on)').choices([
        'tcx',
        'clsact',
        'off',
      ]),
    )
    .option('--max-flows <number>', 'room of the flow table (default: 131072)', wholeNumberFrom(8, MAX_FLOWS))
    .option('--max-rules <number>', 'room for rules (default: 131072)', wholeNumberFrom(1, VnicLimits.maxRuleSlots - 1))
    .option('--deliver-metadata', 'leave queue and bucket before each frame for tc and AF_XDP programs')
    .action(async (device: string, options: AttachOptions) => {
      const context = contextOf(command);
      const { queues, ...rest } = options;
      const body = await bodyOf(device, context.options.netns, rest);
      const client = await context.client();
      const query = { dryRun: context.dryRun, queues };
      const { data: result } = await client.call('attachDevice', { query, body });
      for (const { severity, message } of result.findings) {
        if (severity === 'degrades') context.warn(message);
      }
      await context.print(result, () => attachText(result));
    });
}

async function bodyOf(
  name: string,
  netns: string | undefined,
  { config: file, ...options }: Omit<AttachOptions, 'queues'>,
): Promise<AttachBody> {
  // The file's own reader names the file, and every problem in it.
  const config = file === undefined ? {} : formatDevice(deviceOf(await readConfigFile(file), file, name));
  return { name, ...(netns === undefined ? {} : { netns }), ...options, ...config };
}

/** The named device of a configuration file. Throws `not_found`. */
export function deviceOf(config: { devices: readonly DeviceConfig[] }, file: string, device: string): DeviceConfig {
  const found = config.devices.find(({ name }) => name === device);
  if (found !== undefined) return found;
  throw new VnicError('not_found', `${file} has no device ${device}.`, {
    remedy: `It has: ${config.devices.map(({ name }) => name).join(', ') || 'none'}`,
  });
}

function attachText(result: AttachResult): string {
  const { device, mode, egress, queues, azs, rules, source } = result;
  if (!result.performed) {
    return [`${device}: would`, ...result.actions.map(({ text }) => `  ${text}`)].join('\n');
  }
  const from = source === 'record' ? ', as recorded before' : '';
  return `${device}: attached (${mode}, egress ${egress}), ${count(queues, 'queue')}, ${count(azs, 'AZ')}, ${count(rules, 'rule')}${from}`;
}

export function detachCommand(command: Command): void {
  command
    .argument('<device>', 'network device')
    .option('--force', 'also remove pins that this version cannot read')
    .action(async (name: string, options: { force?: boolean }) => {
      const context = contextOf(command);
      const client = await context.client();
      const params = { device: context.named(name) };
      const { force } = options;
      const describe = async () => (await client.call('detachDevice', { params, query: { dryRun: true, force } })).data;
      if (context.dryRun) {
        const result = await describe();
        const text = `${result.device}: would detach and remove ${count(result.pins.length, 'pin')}`;
        await context.print(result, () => text);
        return;
      }
      if (context.asks) {
        const { device } = await describe();
        await context.confirm(`Detach ${device}? Its rules and AZs are forgotten.`);
      }
      const { data } = await client.call('detachDevice', { params, query: { force } });
      const { device, detached } = data;
      await context.print({ device, detached }, () => `${device}: detached`);
    });
}
