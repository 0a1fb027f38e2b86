// SPDX-License-Identifier: Apache-2.0
/**
 * The device's own indirection table, planned for the steering table. The device's hash is not ours and it has one table
 * for all AZs, so its entries cannot follow the steering table flow by flow. What they can do: never name a queue that is
 * out of use, share the rest by weight, and send the entries that carry much where most of it belongs. What arrives
 * elsewhere takes the hop through a CPUMAP entry.
 */
import { bucketShares, eligibleQueues, queueWeights, type Topology } from './queues.ts';

/** Load that an entry carries, by the queue on which it belongs; any one unit. */
export type EntryLoad = ReadonlyMap<number, number>;

export interface RssPlanInput extends Topology {
  /** Entries of the device's table. */
  size: number;
  /** The device has queues below this in its table only. */
  queueLimit: number;
  /** What is known of entries; the others are only shared out. */
  loads: ReadonlyMap<number, EntryLoad>;
  /** Queue of each entry as it is; empty: not known. */
  current: readonly number[];
}

/** A part of an entry's load below this is not worth that its flows change their queue in mid-stream. */
const LEAST_GAIN = 0.25;

/** Queue of each entry. Empty where no queue that the table may name is usable: there is nothing to ask for then. */
export function planRss(input: RssPlanInput): number[] {
  const { queues, size, queueLimit, loads, current } = input;
  // One table for all AZs.
  const usable = eligibleQueues(
    queues.filter(({ index }) => index < queueLimit),
    0,
  );
  if (usable.length === 0) return [];
  const isUsable = new Set(usable);
  const table = Array.from({ length: size }, (_, entry): number | null => {
    const load = loads.get(entry);
    return load === undefined ? null : wantedQueue(load, isUsable, current[entry]);
  });
  const shares = bucketShares(queueWeights(input), usable, size);
  const left = new Map(usable.map((queue) => [queue, shares[queue]!]));
  for (const queue of table) if (queue !== null) left.set(queue, left.get(queue)! - 1);
  // Those that say nothing keep their queue as far as its share goes, then fill up the others.
  const stays = table.map((queue, entry) => {
    const before = current[entry];
    if (queue !== null || before === undefined || (left.get(before) ?? 0) < 1) return queue;
    left.set(before, left.get(before)! - 1);
    return before;
  });
  return stays.map((queue) => queue ?? takeMost(left));
}

/** The queue where most of an entry's load belongs; the one it has, if little is gained by leaving it. Null: none of it. */
function wantedQueue(load: EntryLoad, usable: ReadonlySet<number>, current: number | undefined): number | null {
  const all = [...load].filter(([queue]) => usable.has(queue)).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const [best] = all;
  if (best === undefined || best[1] <= 0) return null;
  const total = all.reduce((sum, [, part]) => sum + part, 0);
  if (current === undefined || !usable.has(current)) return best[0];
  return best[1] - (load.get(current) ?? 0) < LEAST_GAIN * total ? current : best[0];
}

/** One entry for the queue that lacks most; the lower of two that lack the same. */
function takeMost(left: Map<number, number>): number {
  let most: [number, number] | undefined;
  for (const entry of left) if (most === undefined || entry[1] > most[1]) most = entry;
  const [queue, lack] = most!;
  left.set(queue, lack - 1);
  return queue;
}
