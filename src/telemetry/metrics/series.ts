// SPDX-License-Identifier: Apache-2.0
/** From samples to series. Pure. */
import { VnicLimits } from '../../maps/generated/abi.ts';
import { redirectModes, tellsEnough } from '../../steering/redirect.ts';
import { dropReasons, latencyBucketEdgeNs, type QueueCounters, unparsedReasons } from '../counters.ts';
import { socketProtos } from '../traces/socket-times.ts';
import { labelled, labelledTwice, noLabels } from './labels.ts';
import type { DeviceMetric, ExpositionErrors, HistogramValue, Series } from './metric.ts';
import { isUnavailable, type Part, unavailable } from './part.ts';
import { type DeviceSample, sampleParts, type TrafficSample } from './sample.ts';
import { failoverCauses } from './switches.ts';

type Picked<T> = (value: T) => readonly Series[];

/** Series of a part of the sample, or the reason why there is none. */
export function from<T>(part: Part<T>, pick: Picked<T>): Part<readonly Series[]> {
  return isUnavailable(part) ? part : pick(part);
}

export function ofTraffic(pick: Picked<TrafficSample>): DeviceMetric['series'] {
  return ({ traffic }) => from(traffic, pick);
}

export function perQueue(field: Exclude<keyof QueueCounters, 'queue'>): DeviceMetric['series'] {
  return ofTraffic(({ queues }) =>
    queues.map((counters) => ({ labels: labelled('queue', counters.queue), value: counters[field] })),
  );
}

type TotalField = Exclude<keyof TrafficSample['counters'], 'unparsed' | 'drops'>;

export function total(pick: TotalField | ((counters: TrafficSample['counters']) => bigint)): DeviceMetric['series'] {
  return ofTraffic(({ counters }) => [
    { labels: noLabels, value: typeof pick === 'function' ? pick(counters) : counters[pick] },
  ]);
}

/** Every reason from the start, so that its first occurrence is an increase. */
export function perReason(field: 'unparsed' | 'drops', reasons: readonly string[]): DeviceMetric['series'] {
  return ofTraffic(({ counters }) =>
    reasons.map((reason) => ({ labels: labelled('reason', reason), value: counters[field][reason] ?? 0n })),
  );
}

export function perRule(field: 'packets' | 'bytes'): DeviceMetric['series'] {
  return ({ rules }) =>
    from(rules, (counts) =>
      counts.map((count) => ({
        labels: labelledTwice('rule', count.rule, 'verdict', count.verdict),
        value: count[field],
      })),
    );
}

export function perProgram(
  value: (runs: { runs: bigint; runTimeNs: bigint }) => number | bigint,
): DeviceMetric['series'] {
  return ({ programs }) =>
    from(programs, (list) => list.map((runs) => ({ labels: labelled('program', runs.program), value: value(runs) })));
}

export const dropReasonNames: readonly string[] = dropReasons;
/** The first of the enumeration says that a frame was parsed. */
export const unparsedReasonNames: readonly string[] = unparsedReasons.slice(1);

/**
 * The kernel has 16 buckets in each octave; two of them are shown, from 256 ns to a second. The kernel counts whole
 * nanoseconds, so an upper edge is one less than a round number.
 */
export const latencyEdges: readonly { bucket: number; ns: number }[] = edgesBetween(2 ** 8, 2 ** 30);

function edgesBetween(leastNs: number, mostNs: number): { bucket: number; ns: number }[] {
  const all = Array.from({ length: VnicLimits.latencyBuckets }, (_, bucket) => ({
    bucket,
    ns: latencyBucketEdgeNs(bucket),
  }));
  const isShown = (bucket: number): boolean => (bucket + 1) % (VnicLimits.latencySubBuckets / 2) === 0;
  return all.filter(({ bucket, ns }) => isShown(bucket) && ns >= leastNs - 1 && ns < mostNs);
}

/** From 16 us to 8 s. */
export const rttEdges: readonly { bucket: number; ns: number }[] = edgesBetween(2 ** 14, 2 ** 33);

export function latencyHistogram(
  kernel: { buckets: BigUint64Array; sumNs: bigint },
  edges = latencyEdges,
): HistogramValue {
  let count = 0n;
  let next = 0;
  const buckets = edges.map(({ bucket, ns }) => {
    for (; next <= bucket; next++) count += kernel.buckets[next]!;
    return { le: ns / 1e9, count };
  });
  for (; next < kernel.buckets.length; next++) count += kernel.buckets[next]!;
  return { buckets, sum: Number(kernel.sumNs) / 1e9, count };
}

export function meanLatency({ latency }: DeviceSample): Part<readonly Series[]> {
  if (isUnavailable(latency)) return latency;
  const { count, sumNs } = latency;
  if (count === 0n) return unavailable('no packet was timed yet');
  return [{ labels: noLabels, value: Number(sumNs) / Number(count) }];
}

/** By protocol; where neither is timed, why. */
export function socketLatency({ socketTimes }: DeviceSample): Part<readonly Series[]> {
  const series = socketProtos.flatMap((proto): Series[] => {
    const cells = socketTimes[proto];
    return isUnavailable(cells) ? [] : [{ labels: labelled('proto', proto), value: latencyHistogram(cells) }];
  });
  const { tcp } = socketTimes;
  return series.length === 0 && isUnavailable(tcp) ? tcp : series;
}

export function numaPackets(sample: DeviceSample): Part<readonly Series[]> {
  if (isUnavailable(sample.traffic)) return sample.traffic;
  const { nodes } = sample.traffic;
  if (nodes.length === 0) return unavailable('the NUMA nodes of the CPUs of the queues are not known');
  return nodes.map(({ node, packets }) => ({ labels: labelled('node', node), value: packets }));
}

export function azQueues({ azs }: DeviceSample): Part<readonly Series[]> {
  if (isUnavailable(azs)) return azs;
  if (azs.some(({ usableQueues }) => usableQueues === null)) return unavailable('steering is off');
  return azs.map(({ name, usableQueues }) => ({ labels: labelled('az', name), value: usableQueues ?? 0 }));
}

/** Every cause of every AZ from the start, so that the first failover is an increase. */
export function failovers({ azs, switches }: DeviceSample): readonly Series[] {
  const known = isUnavailable(azs) ? [] : azs.map(({ name }) => name);
  const names = new Set([...known, ...switches.failovers.map(({ az }) => az)]);
  return [...names].flatMap((az) =>
    failoverCauses.map((cause) => ({
      labels: labelledTwice('az', az, 'cause', cause),
      value: switches.failovers.find((entry) => entry.az === az && entry.cause === cause)?.count ?? 0,
    })),
  );
}

export function redirectMode({ redirect }: DeviceSample): readonly Series[] {
  return redirectModes.map((mode) => ({ labels: labelled('mode', mode), value: redirect.mode === mode ? 1 : 0 }));
}

export function redirectObeyed({ redirect: { mode, trial, device } }: DeviceSample): Part<readonly Series[]> {
  if (mode === 'cpumap' && trial === null) return unavailable('nothing is asked of the device in redirect mode cpumap');
  if (device === null || !tellsEnough(device)) return unavailable('too few flows tell whether the device obeys');
  return [{ labels: noLabels, value: device.obeyed / device.flows }];
}

export function failoverCommit({ switches }: DeviceSample): Part<readonly Series[]> {
  const { lastFailoverCommitNs } = switches;
  if (lastFailoverCommitNs === null) return unavailable('the daemon made no failover since it was started');
  return [{ labels: noLabels, value: lastFailoverCommitNs / 1e9 }];
}

export function decodeErrors({ decodeErrors: counts }: DeviceSample, { malformed }: ExpositionErrors): Series[] {
  return [
    ...sampleParts.map((part) => ({ labels: labelled('part', part), value: counts[part] })),
    { labels: labelled('part', 'exposition'), value: malformed },
  ];
}
