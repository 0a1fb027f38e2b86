// SPDX-License-Identifier: Apache-2.0
/** What the suites of redirect modes share: the device attached anew in a mode, and how traffic came to its queues. */
import { writeFileSync } from 'node:fs';
import type { RedirectStatus } from '../../../src/app/redirecting.ts';
import { DeviceSettings } from '../../../src/loader/settings/device-settings.ts';
import type { SettingName } from '../../../src/loader/settings/setting.ts';
import type { Guest } from './checks.ts';
import { vnicctl } from './command.ts';
import { nicName } from './nic.ts';
import { device, deviceSpec, withDevice } from './steered.ts';

const CONFIG_FILE = '/tmp/vnic-redirect.json';

/** Of `vnicctl status`. */
export async function redirectStatus(): Promise<RedirectStatus> {
  return (await vnicctl<{ redirect: RedirectStatus }>('status', nicName)).redirect;
}

/** @param azQueues of each AZ; default: as the other suites have them */
export async function attach(options: readonly string[] = [], azQueues: readonly string[] = []): Promise<void> {
  const azs = deviceSpec.azs?.map((az, index) => ({ ...az, queues: azQueues[index] ?? az.queues }));
  writeFileSync(CONFIG_FILE, JSON.stringify({ devices: { [nicName]: { azs } } }));
  await vnicctl('attach', nicName, '--config', CONFIG_FILE, ...options);
}

export async function detach(): Promise<void> {
  await vnicctl('detach', nicName);
}

/** Values of settings of the device, as they are. */
export function readSettings({ native }: Guest, names: readonly SettingName[]): Record<string, string | null> {
  using settings = new DeviceSettings(native, device);
  return Object.fromEntries(names.map((name) => [name, settings.read(name)]));
}

type Field = 'rxPackets' | 'steeredPackets' | 'missedPackets' | 'directPackets' | 'offCpuPackets';

/** By queue. */
export function countsOf(field: Field): Map<number, number> {
  return withDevice((attached) => new Map(attached.queues().map((queue) => [queue.queue, Number(queue[field])])));
}

export function sumOf(counts: ReadonlyMap<number, number>): number {
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}
