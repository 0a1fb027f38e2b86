// SPDX-License-Identifier: Apache-2.0
/** AZs as a table. */
import type { Output } from '../api/client.ts';
import { formatQueueList } from '../config/queue-list.ts';
import { green, red, table } from './output.ts';

export function azTable(azs: readonly Output<'getAz'>[]): string {
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
