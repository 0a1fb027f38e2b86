// SPDX-License-Identifier: Apache-2.0
/** vnicctl attach and detach. */
import { type Command, Option } from 'commander';
import { describeAction } from '../app/attach.ts';
import type { AttachRequest, AttachResult } from '../app/controller.ts';
import type { EgressHook } from '../app/record.ts';
import type { DeviceConfig } from '../config/device.ts';
import { readConfigFile } from '../config/file.ts';
import { VnicError } from '../errors.ts';
import { deviceText } from '../loader/pins.ts';
import { VnicLimits } from '../maps/generated/abi.ts';
import { type Context, contextOf } from './context.ts';
import { type DoctorOptions, modeOption, queuesOption } from './doctor.ts';
import { wholeNumberFrom } from './numbers.ts';
import { count } from './output.ts';

const MAX_FLOWS = 2 ** 26;

interface AttachOptions extends DoctorOptions {
  config?: string;
  egress?: EgressHook;
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
      const request = await requestOf(context, device, options);
      const result = context.controller.attach(context.named(device), request);
      for (const { severity, message } of result.findings) {
        if (severity === 'degrades') context.warn(message);
      }
      const actions = result.actions.map((action) => ({ ...action, text: describeAction(action) }));
      await context.print({ ...result, actions }, () => attachText(result));
    });
}

async function requestOf(context: Context, device: string, options: AttachOptions): Promise<AttachRequest> {
  const { config: file, mode, queues, egress, maxFlows, maxRules, deliverMetadata } = options;
  return {
    mode,
    dryRun: context.dryRun,
    ...(file === undefined ? {} : { config: deviceOf(await readConfigFile(file), file, device) }),
    ...(queues === undefined ? {} : { queues }),
    ...(egress === undefined ? {} : { egress }),
    ...(maxFlows === undefined ? {} : { maxFlows }),
    ...(maxRules === undefined ? {} : { maxRules }),
    ...(deliverMetadata === undefined ? {} : { deliverMetadata }),
  };
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
    return [`${device}: would`, ...result.actions.map((action) => `  ${describeAction(action)}`)].join('\n');
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
      const device = context.named(name);
      if (context.dryRun) {
        const pins = context.controller.describeDetach(device);
        const text = `${deviceText(device)}: would detach and remove ${count(pins.length, 'pin')}`;
        await context.print({ device: deviceText(device), detached: false, pins }, () => text);
        return;
      }
      if (context.controller.isAttached(device)) {
        await context.confirm(`Detach ${deviceText(device)}? Its rules and AZs are forgotten.`);
      }
      context.controller.detach(device, options.force);
      await context.print({ device: deviceText(device), detached: true }, () => `${deviceText(device)}: detached`);
    });
}
