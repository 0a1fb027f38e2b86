// SPDX-License-Identifier: Apache-2.0
/**
 * Settings of the device that bring packets to their queue before they are received: XPS out of the way of the egress
 * program, or the RSS table. What they were is recorded before the first is changed, so that it can be put back whatever
 * happens in between.
 */
import type { SettingName, SettingsPort } from '../loader/settings/setting.ts';
import type { Lever } from '../steering/redirect.ts';

export type FormerSettings = Readonly<Record<string, string>>;

/** What has to be changed, and to what; empty where everything is so already. */
export function leverChanges(port: SettingsPort, lever: Lever, rssTable: readonly number[]): Map<SettingName, string> {
  if (lever === 'rss') return rssTable.length === 0 ? new Map() : new Map([['rss/table', rssTable.join(',')]]);
  const changes = new Map<SettingName, string>();
  for (let tx = 0; ; tx++) {
    const cpus = port.read(`tx-${tx}/xps_cpus`);
    // Devices with one transmit queue have none.
    if (cpus === null) return changes;
    if (cpus !== '') changes.set(`tx-${tx}/xps_cpus`, '');
    if ((port.read(`tx-${tx}/xps_rxqs`) ?? '') !== '') changes.set(`tx-${tx}/xps_rxqs`, '');
  }
}

/** What is to be recorded before the changes are made. What is recorded already stays: it is from before attaching. */
export function formerOf(port: SettingsPort, changes: ReadonlyMap<SettingName, string>, known: FormerSettings = {}) {
  const read = [...changes.keys()].map((name) => [name, port.read(name)] as const);
  const former = read.filter((entry): entry is [SettingName, string] => entry[1] !== null);
  return { ...Object.fromEntries(former), ...known };
}

export function writeSettings(port: SettingsPort, changes: ReadonlyMap<SettingName, string>): void {
  for (const [name, value] of changes) port.write(name, value);
}

/** A table that nobody set: drivers deal the entries out in turn (ethtool_rxfh_indir_default). */
function isDefaultRss(table: string): boolean {
  const queues = table.split(',').map(Number);
  const count = Math.max(...queues) + 1;
  return queues.every((queue, index) => queue === index % count);
}

/**
 * Puts settings back. A setting that is not there any more is left out. virtio_net forgets the RSS table when XDP is
 * detached and goes on to show it, so one that nobody had set is put back before that, and is out of force afterwards as it
 * was before attaching; one that somebody had set comes after that, and is in force.
 */
export function restoreSettings(port: SettingsPort, former: FormerSettings, when: 'attached' | 'detached'): void {
  for (const [name, value] of Object.entries(former) as [SettingName, string][]) {
    if (name === 'rss/table' && when === 'detached' && isDefaultRss(value)) continue;
    const now = port.read(name);
    if (now === null || (now === value && name !== 'rss/table')) continue;
    port.write(name, value);
  }
}
