// SPDX-License-Identifier: Apache-2.0
/** What a rebalance changed of the home table, so that it can be kept and applied to a table that is made anew. */
import { VnicError } from '../errors.ts';
import { eligibleQueues, type QueueSpec } from './queues.ts';
import { bucketCount, copyTable, maxQueues, rowCount, type SteeringTable } from './table.ts';

/** The bucket's home is this queue, and not what planHome() gives. */
export interface HomeMove {
  row: number;
  bucket: number;
  queue: number;
}

/**
 * Home moves as they are kept: a string for each row with `bucket:queue`, buckets ascending, separated by blanks; rows
 * at the end without moves are left out. At most 300 kB, for a table in which every bucket is moved.
 */
export type HomeMovesText = readonly string[];

/** Where `home` differs from the computed one: by row, then by bucket. */
export function homeMoves(computedHome: SteeringTable, home: SteeringTable): HomeMove[] {
  const moves: HomeMove[] = [];
  home.rows.forEach((queues, row) => {
    const computed = computedHome.rows[row]!;
    queues.forEach((queue, bucket) => {
      if (queue !== computed[bucket]) moves.push({ row, bucket, queue });
    });
  });
  return moves;
}

/** The computed home with the moves made. One to a queue that is gone, or that the row may not use, is dropped. */
export function applyHomeMoves(
  computedHome: SteeringTable,
  moves: readonly HomeMove[],
  queues: readonly QueueSpec[],
): SteeringTable {
  const all = queues.map((queue) => ({ ...queue, usable: true }));
  const allowed = Array.from({ length: rowCount }, (_, row) => new Set(eligibleQueues(all, row)));
  const home = copyTable(computedHome);
  for (const { row, bucket, queue } of moves) {
    if (bucket < bucketCount && allowed[row]?.has(queue) === true) home.rows[row]![bucket] = queue;
  }
  return home;
}

export function formatHomeMoves(moves: readonly HomeMove[]): string[] {
  const rows: string[][] = [];
  const byPlace = [...moves].sort((a, b) => a.row - b.row || a.bucket - b.bucket);
  for (const { row, bucket, queue } of byPlace) {
    while (rows.length <= row) rows.push([]);
    rows[row]!.push(`${bucket}:${queue}`);
  }
  return rows.map((pairs) => pairs.join(' '));
}

function invalid(row: number, message: string): VnicError {
  return new VnicError('invalid_config', `moves of row ${row}: ${message}`, {
    remedy: 'rebalance again, which writes them anew',
  });
}

/** Throws invalid_config for what formatHomeMoves() does not write. */
export function parseHomeMoves(text: HomeMovesText): HomeMove[] {
  if (text.length > rowCount) throw invalid(rowCount, 'there is no such row');
  return text.flatMap((pairs, row) => {
    let last = -1;
    return (pairs === '' ? [] : pairs.split(' ')).map((pair): HomeMove => {
      const match = /^(\d{1,4}):(\d{1,2})$/.exec(pair);
      const [bucket, queue] = [Number(match?.[1]), Number(match?.[2])];
      if (match === null || bucket >= bucketCount || queue >= maxQueues) throw invalid(row, `${pair} is none`);
      if (bucket <= last) throw invalid(row, `bucket ${bucket} is not in ascending order`);
      last = bucket;
      return { row, bucket, queue };
    });
  });
}
