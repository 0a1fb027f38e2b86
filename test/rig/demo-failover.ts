// SPDX-License-Identifier: Apache-2.0
/** The demo's pictures of a zone that dies and comes back. */
import type { ZoneFailover } from './scenarios/zone-failover.ts';
import { columnMs, type Mark, type TimeLine, type TimePicture, timePicture } from './time-picture.ts';

const WIDTH = 76;
const ZOOM_BEFORE_MS = 30;
const ZOOM_AFTER_MS = 70;

/** @param azLetters one for each queue */
export function failoverPictures(result: ZoneFailover, azLetters: string): string {
  const { slices, loss, bySource, az } = result;
  const { sliceMs } = slices;
  const since = (ns: bigint): number => Number(ns - slices.startNs) / 1e6;
  const marks: Mark[] = [
    { sign: '1', atMs: since(loss.lastNs) },
    { sign: '2', atMs: since(loss.lostNs) },
    { sign: '3', atMs: since(loss.restoredNs) },
    { sign: '4', atMs: since(loss.recoveredNs) },
  ];
  const sources: TimeLine[] = bySource.map(({ name, packets }) => ({ name: `from ${name}`, values: packets }));
  const queues: TimeLine[] = Array.from(azLetters, (letter, queue) => ({
    name: `queue ${String(queue).padStart(2)} ${letter}`,
    values: slices.queuePackets[queue] ?? [],
  }));
  const letter = az.slice(-1);
  const queuesOf = (name: string, pick: (owner: string) => boolean): TimeLine => ({
    name,
    values: sum(queues.filter((_, queue) => pick(azLetters[queue] ?? '.')).map(({ values }) => values)),
  });
  const whole: TimePicture = {
    sliceMs,
    // The generator takes a while to start.
    fromMs: firstPacket(bySource) * sliceMs,
    toMs: slices.count * sliceMs,
    width: WIDTH,
    groups: [sources, queues],
    marks,
  };
  const zoom: TimePicture = {
    sliceMs,
    fromMs: Math.max(0, since(loss.lastNs) - ZOOM_BEFORE_MS),
    toMs: since(loss.lastNs) + ZOOM_AFTER_MS,
    width: WIDTH,
    groups: [
      bySource
        .filter(({ name }) => name === az || name === 'no zone')
        .map(({ name, packets }) => ({ name: `from ${name}`, values: packets })),
      [queuesOf(`queues of ${az}`, (owner) => owner === letter), queuesOf('other queues', (owner) => owner !== letter)],
    ],
    marks,
  };
  return [
    `  packets by source and by queue, ${columnMs(whole)} ms a column`,
    timePicture(whole),
    `  1 last packet of ${az}   2 the kernel switches   3 ${az} sends again   4 it is in use again`,
    '',
    `  the switch, ${columnMs(zoom)} ms a column`,
    timePicture(zoom),
  ].join('\n');
}

function firstPacket(bySource: ZoneFailover['bySource']): number {
  return Math.min(...bySource.map(({ packets }) => packets.findIndex((count) => count > 0)).filter((at) => at >= 0));
}

function sum(lists: readonly ArrayLike<number>[]): Float64Array {
  const total = new Float64Array(Math.max(0, ...lists.map(({ length }) => length)));
  for (const list of lists) for (let at = 0; at < list.length; at++) total[at]! += list[at] ?? 0;
  return total;
}
