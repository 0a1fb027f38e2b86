// SPDX-License-Identifier: Apache-2.0
/** vnicctl az. */
import type { Command } from 'commander';
import type { ApiClient, Call, Output } from '../api/client.ts';
import { VnicError } from '../errors.ts';
import { azTable } from './az-table.ts';
import { type Context, contextOf } from './context.ts';
import { type DeviceOption, deviceOption } from './device-option.ts';
import { gather, positiveNumber } from './numbers.ts';
import { count, durationText } from './output.ts';

export function azCommand(command: Command): void {
  listCommand(command);
  setCommand(command);
  deleteCommand(command);
  failCommand(command);
  recoverCommand(command);
}

type AzChange = Output<'putAz'>;
type AzInput = NonNullable<Call<'putAz'>['body']>;

interface AzOperation {
  az: string;
  device: string | undefined;
  perform: (client: ApiClient, call: AzCall) => Promise<{ data: AzChange }>;
  /** `failed`, `recovered`… */
  done: string;
}

interface AzCall {
  params: { device: string; az: string };
  query: { dryRun: boolean };
}

async function run(context: Context, options: DeviceOption, operation: AzOperation): Promise<void> {
  const { az, done } = operation;
  const client = await context.client();
  const params = { device: await context.device(operation.device, options.device), az };
  const { data } = await operation.perform(client, { params, query: { dryRun: context.dryRun } });
  await context.print(data, () => changeText(data, done));
}

function changeText(
  { device, az, performed, moved, collateral, maxOverMean, commitNs }: AzChange,
  done: string,
): string {
  const what = performed ? `${az} ${done}` : `${az} would be ${done}`;
  const time = commitNs === null ? '' : `, switched in ${durationText(commitNs)}`;
  const balance = `fullest queue ${maxOverMean.toFixed(3)} times its share`;
  return `${device}: ${what}: ${count(moved, 'bucket')} moved, ${collateral} collateral, ${balance}${time}`;
}

function listCommand(command: Command): void {
  command
    .command('list')
    .description('AZs with their state and queues')
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (name: string | undefined, options: DeviceOption, inner: Command) => {
      const context = contextOf(inner);
      const client = await context.client();
      const device = await context.device(name, options.device);
      const { data } = await client.call('listAzs', { params: { device } });
      await context.print(data.items, () => (data.items.length === 0 ? 'There are no AZs.' : azTable(data.items)));
    });
}

interface SetOptions extends DeviceOption {
  queues?: string;
  weight?: number;
  prefix?: string[];
}

function setCommand(command: Command): void {
  command
    .command('set')
    .description('make an AZ, or change what is given of it')
    .argument('<name>', 'name of the AZ')
    .argument('[device]', 'network device')
    .option('--queues <list>', 'its queues, such as 0-10,12')
    .option('--weight <number>', 'share of the traffic that belongs to no AZ (default: 1)', positiveNumber)
    .option('--prefix <prefix>', 'remote addresses; repeat it, or use commas; replaces those that were set', gather)
    .addOption(deviceOption())
    .action(async (az: string, device: string | undefined, options: SetOptions, inner: Command) => {
      await run(contextOf(inner), options, {
        az,
        device,
        perform: async (client, call) => {
          const known = await knownAz(client, call.params);
          return await client.call('putAz', { ...call, body: { ...known, ...given(az, options) } as AzInput });
        },
        done: 'set',
      });
    });
}

/** What the API tells of an AZ besides what is configured. */
const observed: ReadonlySet<string> = new Set(['state', 'cause', 'since', 'evidence', 'health', 'rtt']);

/** What is configured of an AZ, without its state; nothing of one that is not there. */
async function knownAz(client: ApiClient, params: AzCall['params']): Promise<Partial<AzInput>> {
  try {
    const { data } = await client.call('getAz', { params });
    const config = Object.fromEntries(Object.entries(data).filter(([field]) => !observed.has(field)));
    return config;
  } catch (error) {
    // Whether it is the device that is not there, the next request says.
    if (error instanceof VnicError && error.code === 'not_found') return {};
    throw error;
  }
}

function given(name: string, { queues, weight, prefix }: SetOptions): Partial<AzInput> {
  return {
    name,
    ...(queues === undefined ? {} : { queues }),
    ...(weight === undefined ? {} : { weight }),
    ...(prefix === undefined ? {} : { prefixes: prefix.filter((text) => text !== '') }),
  };
}

function deleteCommand(command: Command): void {
  command
    .command('delete')
    .description('delete an AZ; its queues stay in use')
    .argument('<name>', 'name of the AZ')
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (az: string, device: string | undefined, options: DeviceOption, inner: Command) => {
      const perform: AzOperation['perform'] = (client, call) => client.call('deleteAz', call);
      await run(contextOf(inner), options, { az, device, perform, done: 'deleted' });
    });
}

interface FailOptions extends DeviceOption {
  force?: boolean;
}

function failCommand(command: Command): void {
  command
    .command('fail')
    .description("take an AZ's queues out of use; exactly its buckets move")
    .argument('<name>', 'name of the AZ')
    .argument('[device]', 'network device')
    .option('--force', 'also when few queues would be left')
    .addOption(deviceOption())
    .action(async (az: string, device: string | undefined, options: FailOptions, inner: Command) => {
      const { force = false } = options;
      const perform: AzOperation['perform'] = (client, call) => client.call('failAz', { ...call, body: { force } });
      await run(contextOf(inner), options, { az, device, perform, done: 'failed' });
    });
}

function recoverCommand(command: Command): void {
  command
    .command('recover')
    .description("take an AZ's queues into use again")
    .argument('<name>', 'name of the AZ')
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (az: string, device: string | undefined, options: DeviceOption, inner: Command) => {
      const perform: AzOperation['perform'] = (client, call) => client.call('recoverAz', call);
      await run(contextOf(inner), options, { az, device, perform, done: 'recovered' });
    });
}
