// SPDX-License-Identifier: Apache-2.0
/** From samples to series. Pure. */
import { VnicLimits } from '../../maps/generated/abi.ts';
import { dropReasons, latencyBucketEdgeNs, type QueueCounters, unparsedReasons } from '../counters.ts';
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
    queues.map((counters) => ({ labels: { queue: String(counters.queue) }, value: counters[field] })),
  );
}

type TotalField = Exclude<keyof TrafficSample['counters'], 'unparsed' | 'drops'>;

export function total(pick: TotalField | ((counters: TrafficSample['counters']) => bigint)): DeviceMetric['series'] {
  return ofTraffic(({ counters }) => [
    { labels: {}, value: typeof pick === 'function' ? pick(counters) : counters[pick] },
  ]);
}

/** Every reason from the start, so that its first occurrence is an increase. */
export function perReason(field: 'unparsed' | 'drops', reasons: readonly string[]): DeviceMetric['series'] {
  return ofTraffic(({ counters }) =>
    reasons.map((reason) => ({ labels: { reason }, value: counters[field][reason] ?? 0n })),
  );
}

export function perRule(field: 'packets' | 'bytes'): DeviceMetric['series'] {
  return ({ rules }) =>
    from(rules, (counts) =>
      counts.map((count) => ({ labels: { rule: count.rule, verdict: count.verdict }, value: count[field] })),
    );
}

export function perProgram(
  value: (runs: { runs: bigint; runTimeNs: bigint }) => number | bigint,
): DeviceMetric['series'] {
  return ({ programs }) =>
    from(programs, (list) => list.map((runs) => ({ labels: { program: runs.program }, value: value(runs) })));
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
  return [{ labels: {}, value: Number(sumNs) / Number(count) }];
}

export function numaPackets(sample: DeviceSample): Part<readonly Series[]> {
  if (isUnavailable(sample.traffic)) return sample.traffic;
  const { nodes } = sample.traffic;
  if (nodes.length === 0) return unavailable('the NUMA nodes of the CPUs of the queues are not known');
  return nodes.map(({ node, packets }) => ({ labels: { node: String(node) }, value: packets }));
}

export function azQueues({ azs }: DeviceSample): Part<readonly Series[]> {
  if (isUnavailable(azs)) return azs;
  if (azs.some(({ usableQueues }) => usableQueues === null)) return unavailable('steering is off');
  return azs.map(({ name, usableQueues }) => ({ labels: { az: name }, value: usableQueues ?? 0 }));
}

/** Every cause of every AZ from the start, so that the first failover is an increase. */
export function failovers({ azs, switches }: DeviceSample): readonly Series[] {
  const known = isUnavailable(azs) ? [] : azs.map(({ name }) => name);
  const names = new Set([...known, ...switches.failovers.map(({ az }) => az)]);
  return [...names].flatMap((az) =>
    failoverCauses.map((cause) => ({
      labels: { az, cause },
      value: switches.failovers.find((entry) => entry.az === az && entry.cause === cause)?.count ?? 0,
    })),
  );
}

export function failoverCommit({ switches }: DeviceSample): Part<readonly Series[]> {
  const { lastFailoverCommitNs } = switches;
  if (lastFailoverCommitNs === null) return unavailable('the daemon made no failover since it was started');
  return [{ labels: {}, value: lastFailoverCommitNs / 1e9 }];
}

export function decodeErrors({ decodeErrors: counts }: DeviceSample, { malformed }: ExpositionErrors): Series[] {
  return [
    ...sampleParts.map((part) => ({ labels: { part }, value: counts[part] })),
    { labels: { part: 'exposition' }, value: malformed },
  ];
}
