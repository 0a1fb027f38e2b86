// SPDX-License-Identifier: Apache-2.0
/** vnicctl attach and detach. */
import { type Command, Option } from 'commander';
import type { Call, Output } from '../api/client.ts';
import { type DeviceConfig, formatDevice } from '../config/device.ts';
import { readConfigFile } from '../config/file.ts';
import { VnicError } from '../errors.ts';
import { VnicLimits } from '../maps/generated/abi.ts';
import { type RedirectSetting, redirectSettings } from '../steering/redirect.ts';
import { type Context, contextOf } from './context.ts';
import { type DoctorOptions, modeOption, queuesOption } from './doctor.ts';
import { wholeNumberFrom } from './numbers.ts';
import { count } from './output.ts';
import { withProgress } from './progress.ts';

const MAX_FLOWS = 2 ** 26;

type AttachBody = NonNullable<Call<'attachDevice'>['body']>;
type AttachResult = Output<'attachDevice'>;

interface AttachOptions extends DoctorOptions {
  config?: string;
  redirect?: RedirectSetting;
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
      new Option(
        '--redirect <mode>',
        'how packets come to the CPU of their queue (default: as configured, else cpumap)',
      ).choices(redirectSettings),
    )
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
      const { queues, redirect, ...rest } = options;
      const body = await bodyOf(device, context.options.netns, rest);
      const client = await context.client();
      const query = { dryRun: context.dryRun, queues, redirect };
      const { data: result } = await withProgress(`attaching ${device}`, () =>
        client.call('attachDevice', { query, body }),
      );
      for (const { severity, message } of result.findings) {
        if (severity === 'degrades') context.warn(message);
      }
      await context.print(result, () => attachText(result));
    });
}

async function bodyOf(
  name: string,
  netns: string | undefined,
  { config: file, ...options }: Omit<AttachOptions, 'queues' | 'redirect'>,
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

interface DetachOptions {
  all?: boolean | undefined;
  force?: boolean | undefined;
}

export function detachCommand(command: Command): void {
  command
    .argument('[device]', 'network device')
    .option('--all', 'every device that is attached, in every namespace; with --force also what no record describes')
    .option(
      '--force',
      'also remove pins that this version cannot read, and overwrite settings that others have changed',
    )
    .action(async (name: string | undefined, { all = false, force }: DetachOptions) => {
      const context = contextOf(command);
      const client = await context.client();
      const detach = async (device: string, dryRun: boolean) =>
        (await client.call('detachDevice', { params: { device }, query: { dryRun, force } })).data;
      const devices = await namedOrAll(context, name, { all, force });
      if (context.dryRun) {
        const results = await inTurn(devices, (device) => detach(device, true));
        const lines = results.map(
          ({ device, pins }) => `${device}: would detach and remove ${count(pins.length, 'pin')}`,
        );
        await context.print(all ? results : results[0], () => lines.join('\n') || NOTHING_ATTACHED);
        return;
      }
      if (context.asks && devices.length > 0) {
        const known = await inTurn(devices, (device) => detach(device, true));
        const names = known.map(({ device }) => device).join(', ');
        await context.confirm(`Detach ${names}? ${all ? 'Their' : 'Its'} rules and AZs are forgotten.`);
      }
      const done = await inTurn(devices, (device) => detach(device, false));
      for (const { settings } of done) {
        for (const { name: setting, now } of settings?.foreign ?? []) {
          context.warn(`${setting} is left at ${now}: somebody else has set it since.`);
        }
        for (const { message } of settings?.failed ?? []) context.warn(message);
      }
      const results = done.map(({ device, detached }) => ({ device, detached }));
      const lines = results.map(({ device }) => `${device}: detached`);
      await context.print(all ? results : results[0], () => lines.join('\n') || NOTHING_ATTACHED);
    });
}

const NOTHING_ATTACHED = 'no device is attached';

async function namedOrAll(
  context: Context,
  name: string | undefined,
  { all = false, force = false }: DetachOptions,
): Promise<string[]> {
  if (all === (name !== undefined)) {
    throw new VnicError('usage', all ? `--all and ${name} were given.` : 'No device is named.', {
      remedy: 'Name one device, or give --all.',
    });
  }
  return name === undefined
    ? await context.devices('attached', ...(force ? ['failed' as const] : []))
    : [context.named(name)];
}

/** One after the other: each waits for the machine's lock. */
async function inTurn<T, R>(items: readonly T[], act: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await act(item));
  return results;
}
