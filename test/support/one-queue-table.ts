// SPDX-License-Identifier: Apache-2.0
import { bucketCount, rowCount, type SteeringTable } from '../../src/steering/table.ts';

/** A steering table that sends everything to one queue. */
export function tableTo(queue: number, usableQueues: bigint = 2n ** 64n - 1n): SteeringTable {
  return { rows: Array.from({ length: rowCount }, () => new Uint16Array(bucketCount).fill(queue)), usableQueues };
}
