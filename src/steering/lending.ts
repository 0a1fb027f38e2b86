// SPDX-License-Identifier: Apache-2.0
/**
 * The policy absorb: the queues of a failed AZ are idle and not lost, so they are lent to the AZs that are left.
 *
 * Load model: the buckets of a row are equal, and an AZ's traffic is in proportion to the weights of its queues. What a
 * failed AZ no longer carries comes back through the others in the same proportion. Every queue's load is then in
 * proportion to its weight again if, of each row of an AZ that is left, a lent queue takes its weight's part of all
 * queues that are in AZs (what it has of row 0, but for queues without an AZ), and the AZ's own queues keep the rest.
 *
 * For each bucket of an AZ's row it is settled once, from the topology alone, which queue of another AZ would borrow it
 * (or none). It is lent while that queue's AZ is failed, the queue is usable, and its own AZ is not failed. So the table
 * is a function of the set of failed AZs:
 * - a failure moves buckets only to the queues that it lends, and those of the failed AZ's own row that were lent before
 *   home; a recovery moves exactly the same ones back; the order of failures says nothing;
 * - these are the fewest moves that give each lent queue its share: it had nothing of these rows before;
 * - row 0, rows of failed AZs and rows without an AZ are those of the home table, and so is all when every AZ is failed.
 *
 * Balance in a row that borrows, with the home table of planHome() and all queues usable: a lent queue is within one
 * bucket of its share, for any weights. With one failed AZ so is each of the row's own queues; with n failed ones, n
 * buckets, because what each takes is rounded by itself. (Own queues that keep fewer than 8 buckets in all can differ by
 * up to 8.) Queues that are lost besides are planned around as always.
 */
import type { FailoverPolicyName } from './failover.ts';
import { bucketShares, queueWeights, type RowUse, rowUses, type Topology } from './queues.ts';
import { homeQuotas, interleave } from './quotas.ts';
import { bucketCount, maxQueues, noQueue, rowCount, type SteeringTable } from './table.ts';

/** By row, and then by bucket: the queue that borrows it, or noQueue. Null: the row lends nothing out. */
export type Borrowers = readonly (Uint16Array | null)[];

/** By AZ, ascending: its queues, ascending. AZs without queues are left out. */
function queuesByAz({ queues }: Topology): Map<number, number[]> {
  const members = queues.filter((queue) => queue.az !== null).sort((a, b) => a.az! - b.az! || a.index - b.index);
  const groups = Map.groupBy(members, (queue) => queue.az!);
  return new Map([...groups].map(([az, own]) => [az, own.map((queue) => queue.index)]));
}

function usableOf({ queues }: Topology, indices: readonly number[]): number[] {
  return queues.filter(({ index, usable }) => usable && indices.includes(index)).map(({ index }) => index);
}

/** Takes count buckets from the queues, as evenly as they have them; the first ones give one more. */
function takeEvenly(count: number, left: Uint32Array): Uint32Array {
  const taken = new Uint32Array(left.length);
  let rest = count;
  while (rest > 0) {
    const givers = [...left.keys()].filter((i) => taken[i]! < left[i]!);
    const each = Math.max(1, Math.floor(rest / givers.length));
    for (const i of givers) {
      const share = Math.min(each, left[i]! - taken[i]!, rest);
      taken[i]! += share;
      rest -= share;
    }
  }
  taken.forEach((share, i) => {
    left[i]! -= share;
  });
  return taken;
}

/** One row: each AZ takes evenly of the row's queues, and each of an AZ's queues evenly of what its AZ takes. */
function borrowersOfRow(row: number, members: ReadonlyMap<number, number[]>, quotas: Uint32Array): Uint16Array {
  const own = members.get(row)!;
  const homeCounts = new Uint32Array(maxQueues);
  const even = Math.floor(bucketCount / own.length);
  own.forEach((queue, i) => {
    homeCounts[queue] = even + (i < bucketCount % own.length ? 1 : 0);
  });
  const bucketsOf = new Map<number, number[]>(own.map((queue) => [queue, []]));
  interleave(homeCounts).forEach((queue, bucket) => {
    bucketsOf.get(queue)!.push(bucket);
  });

  const left = Uint32Array.from(own, (queue) => homeCounts[queue]!);
  // By own queue, then by AZ; the row's own AZ keeps what is left.
  const takenOf = own.map(() => new Uint32Array(rowCount));
  for (const [az, queues] of members) {
    if (az === row) continue;
    const total = queues.reduce((sum, queue) => sum + quotas[queue]!, 0);
    takeEvenly(total, left).forEach((count, i) => {
      takenOf[i]![az] = count;
    });
  }
  const takenBy = new Map<number, number[]>([...members.keys()].map((az) => [az, []]));
  own.forEach((queue, i) => {
    const counts = takenOf[i]!;
    counts[row] = left[i]!;
    interleave(counts).forEach((az, position) => {
      takenBy.get(az)!.push(bucketsOf.get(queue)![position]!);
    });
  });

  const borrowers = new Uint16Array(bucketCount).fill(noQueue);
  for (const [az, queues] of members) {
    if (az === row) continue;
    const counts = new Uint32Array(maxQueues);
    for (const queue of queues) counts[queue] = quotas[queue]!;
    const order = interleave(counts);
    takenBy.get(az)!.forEach((bucket, i) => {
      borrowers[bucket] = order[i]!;
    });
  }
  return borrowers;
}

/** Depends on indices, AZs and weights alone, not on what is usable. */
export function planBorrowers(topology: Topology): Borrowers {
  const members = queuesByAz(topology);
  const inAzs = [...members.values()].flat();
  const azOf = new Map(topology.queues.map((queue) => [queue.index, queue.az]));
  const quotas = homeQuotas(inAzs, bucketShares(queueWeights(topology), inAzs), azOf);
  return Array.from({ length: rowCount }, (_, row) => (members.has(row) ? borrowersOfRow(row, members, quotas) : null));
}

/** What is lent to whom while some AZs are failed. */
export interface Lending {
  /** Usable queues of failed AZs. */
  lent: readonly number[];
  /** Rows that borrow them. One whose own queues are all lost uses what every row may use, and borrows nothing. */
  rows: readonly number[];
}

/** Null: nothing is lent. */
export function lendingOf(
  topology: Topology & { failedAzs?: readonly number[]; policy?: FailoverPolicyName },
): Lending | null {
  const { failedAzs = [], policy = 'evacuate' } = topology;
  if (policy !== 'absorb' || failedAzs.length === 0) return null;
  const rows = [...queuesByAz(topology)]
    .filter(([az, own]) => !failedAzs.includes(az) && usableOf(topology, own).length > 0)
    .map(([az]) => az);
  const lent = topology.queues.filter(({ az, usable }) => usable && az !== null && failedAzs.includes(az));
  if (rows.length === 0 || lent.length === 0) return null;
  return { lent: lent.map((queue) => queue.index).sort((a, b) => a - b), rows };
}

/** The home table with the buckets that are lent on the queues that borrow them. */
export function lendHome(home: SteeringTable, lending: Lending, borrowers: Borrowers): SteeringTable {
  const isLent = new Uint8Array(noQueue + 1);
  for (const queue of lending.lent) isLent[queue] = 1;
  const rows = home.rows.map((own, row) => {
    const takers = lending.rows.includes(row) ? borrowers[row] : null;
    return takers ? own.map((queue, bucket) => (isLent[takers[bucket]!] === 1 ? takers[bucket]! : queue)) : own;
  });
  return { rows, usableQueues: home.usableQueues };
}

/** What each row may use while queues are lent: see above. */
export function lendingUses(topology: Topology, lending: Lending): RowUse[] {
  const weights = queueWeights(topology);
  const weightOf = (queues: readonly number[]): number => queues.reduce((sum, queue) => sum + weights[queue]!, 0);
  const members = queuesByAz(topology);
  const kept = weightOf([...members.values()].flat()) - weightOf(lending.lent);
  return rowUses(topology).map((use, row) => {
    if (!lending.rows.includes(row)) return use;
    const own = members.get(row)!;
    const scale = kept / weightOf(own);
    const scaled = weights.slice();
    for (const queue of own) scaled[queue]! *= scale;
    return { eligible: [...usableOf(topology, own), ...lending.lent].sort((a, b) => a - b), weights: scaled };
  });
}
