// SPDX-License-Identifier: Apache-2.0
/** Lists of queues as the kernel writes lists of CPUs: "0-10,12". */
import { VnicError } from '../errors.ts';
import { VnicLimits } from '../maps/generated/abi.ts';

const remedy = `Write queues from 0 to ${VnicLimits.maxQueues - 1}, e.g. 0-10,12.`;

/** Ascending queue numbers from "0-10,12", one number, or a list of numbers. Throws invalid_config. */
export function parseQueueList(input: string | number | readonly number[]): number[] {
  const parts = typeof input === 'string' ? input.split(',') : [input].flat().map(String);
  if (parts.every((part) => part.trim() === '')) {
    throw new VnicError('invalid_config', 'the list of queues is empty', { remedy });
  }
  const queues = new Set<number>();
  for (const part of parts) {
    for (const queue of parseRange(part)) {
      if (queues.has(queue)) throw new VnicError('invalid_config', `queue ${queue} is listed twice`, { remedy });
      queues.add(queue);
    }
  }
  return [...queues].sort((a, b) => a - b);
}

function parseRange(part: string): number[] {
  const match = /^\s*(\d+)\s*(?:-\s*(\d+)\s*)?$/.exec(part);
  const first = Number(match?.[1]);
  const last = match?.[2] === undefined ? first : Number(match[2]);
  if (match === null || last >= VnicLimits.maxQueues || first > last) {
    throw new VnicError('invalid_config', `"${part.trim()}" is not a queue or a range of queues`, { remedy });
  }
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

/** The shortest form: "0-10,12"; two neighbours are a range too. */
export function formatQueueList(queues: readonly number[]): string {
  const sorted = [...new Set(queues)].sort((a, b) => a - b);
  const ranges: { first: number; last: number }[] = [];
  for (const queue of sorted) {
    const current = ranges.at(-1);
    if (current !== undefined && queue === current.last + 1) current.last = queue;
    else ranges.push({ first: queue, last: queue });
  }
  return ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(',');
}
