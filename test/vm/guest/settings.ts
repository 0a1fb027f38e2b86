// SPDX-License-Identifier: Apache-2.0
/** Every setting of a device that somebody could change: read before and after, it says whether anything was left. */

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

const DEVICE_FILES = ['mtu', 'flags', 'tx_queue_len', 'gro_flush_timeout', 'napi_defer_hard_irqs', 'threaded'];
/** Lower-case: what is read; -S is counters. */
const ETHTOOL = ['-l', '-k', '-c', '-x', '-g', '-a', '--show-priv-flags'];

function readAll(folder: string, into: Record<string, string>): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) readAll(file, into);
    else if (entry.isFile()) into[file] = read(file);
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}

function said(command: string, ...args: string[]): string {
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: 'utf8' });
  return `${status}\n${stdout}${stderr}`;
}

/** By file or command. The queueing disciplines are without their counters. */
export function readSettings(device: string): Record<string, string> {
  const settings: Record<string, string> = {};
  const folder = `/sys/class/net/${device}`;
  readAll(`${folder}/queues`, settings);
  for (const name of DEVICE_FILES) settings[`${folder}/${name}`] = read(`${folder}/${name}`);
  for (const interrupt of readdirSync('/proc/irq')) {
    const file = `/proc/irq/${interrupt}/smp_affinity_list`;
    if (/^\d+$/.test(interrupt)) settings[file] = read(file);
  }
  for (const option of ETHTOOL) settings[`ethtool ${option}`] = said('ethtool', option, device);
  settings['qdiscs'] = said('tc', 'qdisc', 'show', 'dev', device);
  settings['filters'] = said('tc', 'filter', 'show', 'dev', device, 'egress');
  for (const name of ['rps_sock_flow_entries', 'netdev_budget', 'default_qdisc', 'busy_poll', 'busy_read']) {
    settings[name] = read(`/proc/sys/net/core/${name}`);
  }
  // How much a queue may hold of unsent bytes is the kernel's own measurement (lib/dynamic_queue_limits.c).
  return Object.fromEntries(
    Object.entries(settings).filter(
      ([name]) => !/byte_queue_limits\/(limit|inflight|hold_time|stall)|rps_flow_cnt_/.test(name),
    ),
  );
}
