// SPDX-License-Identifier: Apache-2.0
/** A small steering table as the planner makes it: three AZs of two queues, the first buckets of each row. Pure. */
import { plan, planHome } from '../../../src/steering/planner.ts';
import type { QueueSpec } from '../../../src/steering/queues.ts';

const BUCKETS = 12;
const QUEUES_PER_AZ = 2;

export interface Row {
  name: string;
  /** The queue of each bucket. */
  queues: number[];
}

/** @param lost the AZ whose queues are out of use, or null */
export function plannedRows(names: readonly string[], lost: string | null): Row[] {
  const azs = names.map((name, index) => ({
    index: index + 1,
    name,
    weight: 1,
    queues: Array.from({ length: QUEUES_PER_AZ }, (_, queue) => index * QUEUES_PER_AZ + queue),
  }));
  const queues = azs.flatMap((az) =>
    az.queues.map((index): QueueSpec => ({ index, az: az.index, cpu: index, numaNode: 0, usable: az.name !== lost })),
  );
  const home = planHome(queues, azs);
  const { table } = plan({ queues, azs, home, current: home });
  return azs.map(({ index, name }) => ({ name, queues: [...table.rows[index]!.subarray(0, BUCKETS)] }));
}
