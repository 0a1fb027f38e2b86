// SPDX-License-Identifier: Apache-2.0
/** What vnicctl top shows: two looks at a device and what happened between them. Pure. */
import type { Output } from '../api/client.ts';

type Flow = Output<'listFlows'>['items'][number];
type Rule = Output<'listRules'>['items'][number];
type Report = Output<'getLatency'>;
type Times = Report['toCpu'];

/** What was seen at one moment. */
export interface TopLook {
  /** ms of a clock that only goes forward. */
  atMs: number;
  status: Output<'getDevice'>;
  queues: Output<'listQueues'>['items'];
  latency: Report;
  flows: readonly Flow[];
  /** Null: too many to look at each time. */
  rules: readonly Rule[] | null;
}

export interface Quantiles {
  count: number;
  p50Ns: number | null;
  p90Ns: number | null;
  p99Ns: number | null;
  p999Ns: number | null;
}

export interface TopView {
  device: string;
  seconds: number;
  rxPacketsPerSecond: number;
  rxBitsPerSecond: number;
  txPacketsPerSecond: number;
  txBitsPerSecond: number;
  /** By reason. */
  dropsPerSecond: Record<string, number>;
  latency: Quantiles;
  /** By protocol; null: not measured. */
  toSocket: Record<'tcp' | 'udp', Quantiles | null>;
  queues: {
    queue: number;
    az: string | null;
    cpu: number | null;
    usable: boolean;
    packetsPerSecond: number;
    bitsPerSecond: number;
  }[];
  azs: { name: string | null; state: string; queues: number; packetsPerSecond: number; rtt: Quantiles }[];
  rttRemark: string | null;
  flows: readonly Flow[];
  /** Rules that dropped, or would have. Null: too many rules to look at each time. */
  limits: { rule: number; packetsPerSecond: number; droppedPerSecond: number; shadow: boolean }[] | null;
}

const number = (value: number | bigint | undefined): number => Number(value ?? 0);

/** What came between two looks of the same histogram. */
export function quantilesBetween(before: Times, after: Times): Quantiles {
  const earlier = new Map(before.buckets.map(({ upToNs, count }) => [upToNs, number(count)]));
  const buckets = after.buckets
    .map(({ upToNs, count }) => ({ upToNs, count: number(count) - (earlier.get(upToNs) ?? 0) }))
    .filter(({ count }) => count > 0);
  const total = buckets.reduce((sum, { count }) => sum + count, 0);
  const quantile = (share: number): number | null => {
    let left = Math.ceil(total * share);
    for (const { upToNs, count } of buckets) {
      left -= count;
      if (left <= 0) return upToNs;
    }
    return null;
  };
  if (total === 0) return { count: 0, p50Ns: null, p90Ns: null, p99Ns: null, p999Ns: null };
  return {
    count: total,
    p50Ns: quantile(0.5),
    p90Ns: quantile(0.9),
    p99Ns: quantile(0.99),
    p999Ns: quantile(0.999),
  };
}

export function topView(before: TopLook, after: TopLook): TopView {
  const seconds = Math.max(0.001, (after.atMs - before.atMs) / 1000);
  // A device that was attached again in between counts from zero.
  const rate = (now: number | bigint | undefined, then: number | bigint | undefined): number =>
    Math.max(0, number(now) - number(then)) / seconds;
  const { counters } = after.status;
  const toSocket = (proto: 'tcp' | 'udp'): Quantiles | null => {
    const now = after.latency.toSocket[proto].value;
    return now === null ? null : quantilesBetween(before.latency.toSocket[proto].value ?? { ...now, buckets: [] }, now);
  };
  const queues = after.queues.map((queue) => {
    const then = before.queues.find((other) => other.queue === queue.queue);
    return {
      queue: queue.queue,
      az: queue.az,
      cpu: queue.cpu,
      usable: queue.usable,
      packetsPerSecond: rate(queue.steeredPackets, then?.steeredPackets),
      bitsPerSecond: 8 * rate(queue.steeredBytes, then?.steeredBytes),
      tx: rate(queue.txPackets, then?.txPackets),
      txBits: 8 * rate(queue.txBytes, then?.txBytes),
    };
  });
  const sum = (pick: (queue: (typeof queues)[number]) => number): number =>
    queues.reduce((total, queue) => total + pick(queue), 0);
  const rttOf = (name: string | null): Quantiles => {
    const now = after.latency.rtt.azs.find(({ az }) => az === name);
    const then = before.latency.rtt.azs.find(({ az }) => az === name);
    if (now === undefined) return { count: 0, p50Ns: null, p90Ns: null, p99Ns: null, p999Ns: null };
    return quantilesBetween(then?.rtt ?? { ...now.rtt, buckets: [] }, now.rtt);
  };
  return {
    device: after.status.device,
    seconds,
    rxPacketsPerSecond: rate(counters.rxPackets, before.status.counters.rxPackets),
    rxBitsPerSecond: 8 * rate(counters.rxBytes, before.status.counters.rxBytes),
    txPacketsPerSecond:
      sum(({ tx }) => tx) + rate(counters.txUnsteeredPackets, before.status.counters.txUnsteeredPackets),
    txBitsPerSecond: sum(({ txBits }) => txBits),
    dropsPerSecond: Object.fromEntries(
      Object.entries(counters.drops).map(([reason, count]) => [
        reason,
        rate(count, before.status.counters.drops[reason]),
      ]),
    ),
    latency: quantilesBetween(before.latency.toCpu, after.latency.toCpu),
    toSocket: { tcp: toSocket('tcp'), udp: toSocket('udp') },
    queues: queues.map(({ queue, az, cpu, usable, packetsPerSecond, bitsPerSecond }) => ({
      queue,
      az,
      cpu,
      usable,
      packetsPerSecond,
      bitsPerSecond,
    })),
    azs: after.status.azs.map(({ name, state }) => ({
      name,
      state,
      queues: queues.filter(({ az, usable }) => az === name && usable).length,
      packetsPerSecond: queues
        .filter(({ az }) => az === name)
        .reduce((total, { packetsPerSecond }) => total + packetsPerSecond, 0),
      rtt: rttOf(name),
    })),
    rttRemark: after.latency.rtt.remark,
    flows: after.flows,
    limits: after.rules === null || before.rules === null ? null : limitsThatDrop(before.rules, after.rules, rate),
  };
}

function limitsThatDrop(
  before: readonly Rule[],
  after: readonly Rule[],
  rate: (now: number | bigint | undefined, then: number | bigint | undefined) => number,
): NonNullable<TopView['limits']> {
  const earlier = new Map(before.map((rule) => [rule.id, rule]));
  return after
    .map((rule) => {
      const now = countersOf(rule);
      const then = countersOf(earlier.get(rule.id));
      return {
        rule: rule.id,
        packetsPerSecond: rate(now?.packets, then?.packets),
        droppedPerSecond: rate(now?.droppedPackets, then?.droppedPackets),
        shadow: rule.shadow === true,
      };
    })
    .filter(({ droppedPerSecond }) => droppedPerSecond > 0)
    .sort((a, b) => b.droppedPerSecond - a.droppedPerSecond);
}

function countersOf(rule: Rule | undefined) {
  return rule !== undefined && 'counters' in rule ? rule.counters : undefined;
}
