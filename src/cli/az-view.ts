// SPDX-License-Identifier: Apache-2.0
/** An AZ's status as it is printed. */
import type { AzStatus } from '../app/attached-device.ts';
import { formatQueueList } from '../config/queue-list.ts';
import { formatPrefix } from '../steering/rules/prefix.ts';
import { green, red, table } from './output.ts';

export interface AzView extends Omit<AzStatus, 'config'> {
  prefixes: string[];
}

export function azView({ config, ...az }: AzStatus): AzView {
  return { ...az, prefixes: config.prefixes.map(formatPrefix) };
}

export function azTable(azs: readonly AzView[]): string {
  return table(azs, [
    { title: 'AZ', value: (az) => az.name },
    { title: 'STATE', value: (az) => (az.state === 'up' ? green('up') : red('failed')) },
    { title: 'CAUSE', value: (az) => az.cause },
    { title: 'SINCE', value: (az) => az.since },
    { title: 'WEIGHT', value: (az) => az.weight },
    { title: 'QUEUES', value: (az) => formatQueueList(az.queues) },
    { title: 'PREFIXES', value: (az) => az.prefixes.join(', ') || null },
  ]);
}
