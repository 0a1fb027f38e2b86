// SPDX-License-Identifier: Apache-2.0
/** A zone's loss and recovery over time, as the queues saw it. Pure. */
import type { Slices } from '../rig/checker.ts';
import type { LinePlot } from './plot.ts';

export interface ZoneQueues {
  name: string;
  first: number;
  last: number;
}

const LONG_COLUMNS = 120;
const NEAR_MS = 150;

/** `lost`: index of the zone, whose own queues fall silent first. */
export function failoverPlots(slices: Slices, zones: readonly ZoneQueues[], lost: number): LinePlot[] {
  const packets = zones.map(({ first, last }) =>
    Array.from({ length: slices.count }, (_, slice) => {
      let sum = 0;
      for (let queue = first; queue <= last; queue++) sum += slices.queuePackets[queue]?.[slice] ?? 0;
      return sum;
    }),
  );
  const step = Math.max(1, Math.ceil(slices.count / LONG_COLUMNS));
  const whole = plotOf('Failover over time: what arrives on the queues of each AZ', 'seconds', zones, (zone) =>
    columns(packets[zone]!, step).map(([at, mean]) => [(at * slices.sliceMs) / 1000, mean / slices.sliceMs]),
  );
  const end = emptyFrom(packets[lost]!);
  if (end === null) return [whole];
  const near = Math.ceil(NEAR_MS / slices.sliceMs);
  const [from, to] = [Math.max(0, end - near), Math.min(slices.count, end + near)];
  const title = `The same around the loss, in slices of ${slices.sliceMs} ms`;
  const close = plotOf(title, 'ms from the first slice without a packet on the lost queues', zones, (zone) =>
    packets[zone]!.slice(from, to).map((count, index) => [
      (from + index - end) * slices.sliceMs,
      count / slices.sliceMs,
    ]),
  );
  return [whole, close];
}

function plotOf(
  title: string,
  label: string,
  zones: readonly ZoneQueues[],
  points: (zone: number) => [number, number][],
): LinePlot {
  return {
    kind: 'lines',
    title,
    x: { label },
    y: { label: 'thousand packets a second' },
    lines: zones.map(({ name, first, last }, zone) => ({
      name: `queues of ${name} (${first}-${last})`,
      points: points(zone),
    })),
  };
}

/** Means of so many slices each, with the first slice; a last one of fewer is left out. */
function columns(values: readonly number[], step: number): [number, number][] {
  return Array.from({ length: Math.floor(values.length / step) }, (_, column) => {
    const part = values.slice(column * step, (column + 1) * step);
    return [column * step, part.reduce((sum, one) => sum + one, 0) / step];
  });
}

/** First slice of the longest time without a packet after the first one; null: there is none. */
function emptyFrom(values: readonly number[]): number | null {
  let [best, length, start] = [-1, 0, -1];
  for (let at = values.findIndex((value) => value > 0); at >= 0 && at < values.length; at++) {
    if (values[at]! > 0) start = -1;
    else if (start < 0) start = at;
    const isLongest = start >= 0 && at - start + 1 > length;
    if (isLongest) [best, length] = [start, at - start + 1];
  }
  return best < 0 ? null : best;
}
