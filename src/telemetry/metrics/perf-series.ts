// SPDX-License-Identifier: Apache-2.0
/** From perf counters, tracepoints and driver statistics to series. Pure. */
import type { PerfEventName } from '../perf/events.ts';
import { type DeviceTraces, exceptionActions, redirectErrors, type SoftirqTime } from '../traces/model.ts';
import { labelled, labelledTwice, noLabels } from './labels.ts';
import type { MachineSample } from './machine.ts';
import type { DaemonMetric, DeviceMetric, Series } from './metric.ts';
import { isUnavailable, type Part, unavailable } from './part.ts';

type OfMachine = DaemonMetric['series'];

export function perfTotal(event: PerfEventName): OfMachine {
  return ({ machine }) => {
    const count = machine.perf.find((candidate) => candidate.event === event);
    if (count === undefined) return [];
    if (count.unavailable !== null) return unavailable(count.unavailable);
    return count.cpus.map(({ cpu, value }) => ({ labels: labelled('cpu', cpu), value }));
  };
}

/** Perf events and tracepoints: whether each is there. */
export const perfAvailable: OfMachine = ({ machine: { perf, tracepoints } }) => [
  ...perf.map(({ event, unavailable: reason }) => availability(event, reason)),
  ...tracepoints.map(({ name, unavailable: reason }) => availability(name, reason)),
];

function availability(event: string, reason: string | null): Series {
  return { labels: labelled('event', event), value: reason === null ? 1 : 0 };
}

export const perfCountedShare: OfMachine = ({ machine: { perf } }) =>
  perf.flatMap(({ event, countedShare }) =>
    countedShare === null ? [] : [{ labels: labelled('event', event), value: countedShare }],
  );

export function softirqs(value: (time: SoftirqTime) => number | bigint): OfMachine {
  return ({ machine }: { machine: MachineSample }) => {
    const times = machine.softirqs;
    if (isUnavailable(times)) return times;
    return times.map((time) => ({ labels: labelled('cpu', time.cpu), value: value(time) }));
  };
}

const NOT_COUNTED = 'it is counted with daemon.telemetry.tracepoints: all';

function ofTraces(pick: (traces: DeviceTraces) => Part<readonly Series[]>): DeviceMetric['series'] {
  return ({ traces }) => (isUnavailable(traces) ? traces : pick(traces));
}

export const cpumapDrops = ofTraces(({ rings }) =>
  rings.flatMap(({ cpu, ringFullDrops, noMemoryDrops }) => [
    { labels: labelledTwice('cpu', cpu, 'reason', 'ring_full'), value: ringFullDrops },
    { labels: labelledTwice('cpu', cpu, 'reason', 'no_memory'), value: noMemoryDrops },
  ]),
);

type RingFlow = NonNullable<DeviceTraces['rings'][number]['flow']>;

export function perRing(field: keyof RingFlow): DeviceMetric['series'] {
  return ofTraces(({ rings }) => {
    const counted = rings.flatMap(({ cpu, flow }) =>
      flow === null ? [] : [{ labels: labelled('cpu', cpu), value: flow[field] }],
    );
    return counted.length === 0 ? unavailable(NOT_COUNTED) : counted;
  });
}

export const redirectErrorsByReason = ofTraces((traces) =>
  redirectErrors.map((reason, index) => ({
    labels: labelled('reason', reason),
    value: traces.redirectErrors[index] ?? 0n,
  })),
);

export const exceptionsByAction = ofTraces((traces) =>
  exceptionActions.map((action, index) => ({
    labels: labelled('action', action),
    value: traces.exceptions[index] ?? 0n,
  })),
);

export function polls(field: keyof NonNullable<DeviceTraces['polls']>): DeviceMetric['series'] {
  return ofTraces((traces) =>
    traces.polls === null ? unavailable(NOT_COUNTED) : [{ labels: noLabels, value: traces.polls[field] }],
  );
}

export function perDriverQueue(field: 'driver' | 'unexplained'): DeviceMetric['series'] {
  return ({ driverDrops }) =>
    isUnavailable(driverDrops)
      ? driverDrops
      : driverDrops.map((drops) => ({ labels: labelled('queue', drops.queue), value: drops[field] }));
}
