// SPDX-License-Identifier: Apache-2.0
/** The queues of an attached device with what they counted. */
import { hasQueue } from '../steering/table.ts';
import { type CounterCells, type QueueCounters, readQueueCounters } from '../telemetry/counters.ts';
import type { DeviceModel } from './device-model.ts';

export interface QueueStatus extends QueueCounters {
  az: string | null;
  cpu: number | null;
  usable: boolean;
}

/** @param usable bit mask of the queues that the active table uses */
export function queueStatuses(
  cells: Pick<CounterCells, 'queueStats'>,
  model: DeviceModel,
  usable: bigint,
): QueueStatus[] {
  const { queues } = model.topology;
  return readQueueCounters(cells, queues.length).map((counters) => {
    const queue = queues[counters.queue];
    return {
      ...counters,
      az: queue === undefined || queue.az === null ? null : model.azName(queue.az),
      cpu: queue?.cpu ?? null,
      usable: hasQueue(usable, counters.queue),
    };
  });
}
