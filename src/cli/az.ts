// SPDX-License-Identifier: Apache-2.0
/** vnicctl az. */
import type { Command } from 'commander';
import type { AttachedDevice } from '../app/attached-device.ts';
import { formatAz, parseAz } from '../config/azs.ts';
import { deviceText } from '../loader/pins.ts';
import type { AzConfig } from '../steering/azs.ts';
import type { PlanSummary } from '../steering/plan-summary.ts';
import type { PlanResult } from '../steering/planner.ts';
import { azTable, azView } from './az-view.ts';
import { type Context, contextOf } from './context.ts';
import { gather, positiveNumber } from './numbers.ts';
import { count, durationText } from './output.ts';
import { deviceOption } from './rule.ts';

interface DeviceOption {
  device?: string;
}

export function azCommand(command: Command): void {
  listCommand(command);
  setCommand(command);
  deleteCommand(command);
  failCommand(command);
  recoverCommand(command);
}

export interface AzReport {
  device: string;
  az: string;
  /** False with --dry-run. */
  performed: boolean;
  /** Buckets, over all rows of the steering table. */
  moved: number;
  forced: number;
  planned: number;
  /** Moved without need: always 0. */
  collateral: number;
  /** Largest number of buckets over its share, among all queues in use. */
  maxOverMean: number;
  /** How long the switch took; null if nothing was switched. */
  commitNs: number | null;
}

export function summaryFields({ moved, forced, planned, collateral, maxOverMean }: PlanSummary) {
  return { moved, forced, planned, collateral, maxOverMean };
}

interface AzOperation {
  az: string;
  device: string | undefined;
  plan: (device: AttachedDevice) => PlanResult;
  perform: (device: AttachedDevice) => { plan: PlanResult; commitNs: number | null };
  /** `failed`, `recovered`… */
  done: string;
}

async function run(context: Context, options: DeviceOption, operation: AzOperation): Promise<void> {
  const device = context.device(operation.device, options.device);
  const report = context.controller.withDevice(device, (attached): AzReport => {
    const result = context.dryRun ? { plan: operation.plan(attached), commitNs: null } : operation.perform(attached);
    return {
      device: deviceText(device),
      az: operation.az,
      performed: !context.dryRun,
      ...summaryFields(result.plan.summary),
      commitNs: result.commitNs,
    };
  });
  await context.print(report, () => reportText(report, operation.done));
}

function reportText(
  { device, az, performed, moved, collateral, maxOverMean, commitNs }: AzReport,
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
      const device = context.device(name, options.device);
      const azs = context.controller.withDevice(device, (attached) => attached.azs().map(azView));
      await context.print(azs, () => (azs.length === 0 ? 'There are no AZs.' : azTable(azs)));
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
        plan: (attached) => attached.planSet(azFrom(attached, az, options)),
        perform: (attached) => attached.setAz(azFrom(attached, az, options)),
        done: 'set',
      });
    });
}

function azFrom(device: AttachedDevice, name: string, { queues, weight, prefix }: SetOptions): AzConfig {
  const known = device.config.azs.find((az) => az.name === name);
  return parseAz({
    name,
    ...(known === undefined ? {} : formatAz(known)),
    ...(queues === undefined ? {} : { queues }),
    ...(weight === undefined ? {} : { weight }),
    ...(prefix === undefined ? {} : { prefixes: prefix.filter((text) => text !== '') }),
  });
}

function deleteCommand(command: Command): void {
  command
    .command('delete')
    .description('delete an AZ; its queues stay in use')
    .argument('<name>', 'name of the AZ')
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (az: string, device: string | undefined, options: DeviceOption, inner: Command) => {
      await run(contextOf(inner), options, {
        az,
        device,
        plan: (attached) => attached.planDeletion(az),
        perform: (attached) => attached.deleteAz(az),
        done: 'deleted',
      });
    });
}

function failCommand(command: Command): void {
  command
    .command('fail')
    .description("take an AZ's queues out of use; exactly its buckets move")
    .argument('<name>', 'name of the AZ')
    .argument('[device]', 'network device')
    .option('--force', 'also when few queues would be left')
    .addOption(deviceOption())
    .action(
      async (az: string, device: string | undefined, options: DeviceOption & { force?: boolean }, inner: Command) => {
        const { force = false } = options;
        await run(contextOf(inner), options, {
          az,
          device,
          plan: (attached) => attached.planFailure(az, force),
          perform: (attached) => attached.failAz(az, force),
          done: 'failed',
        });
      },
    );
}

function recoverCommand(command: Command): void {
  command
    .command('recover')
    .description("take an AZ's queues into use again")
    .argument('<name>', 'name of the AZ')
    .argument('[device]', 'network device')
    .addOption(deviceOption())
    .action(async (az: string, device: string | undefined, options: DeviceOption, inner: Command) => {
      await run(contextOf(inner), options, {
        az,
        device,
        plan: (attached) => attached.planRecovery(az),
        perform: (attached) => attached.recoverAz(az),
        done: 'recovered',
      });
    });
}
