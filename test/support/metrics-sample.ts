// SPDX-License-Identifier: Apache-2.0
/** A made-up sample of a device in which everything has a value. */
import { VnicLimits } from '../../src/maps/generated/abi.ts';
import type { DataplaneCounters, QueueCounters } from '../../src/telemetry/counters.ts';
import type { MachineSample } from '../../src/telemetry/metrics/machine.ts';
import type { DeviceSample } from '../../src/telemetry/metrics/sample.ts';
import { type DeviceTraces, exceptionActions, redirectErrors } from '../../src/telemetry/traces/model.ts';

export function madeQueue(queue: number, base = 0n): QueueCounters {
  return {
    queue,
    rxPackets: base + 10n,
    rxBytes: base + 1000n,
    steeredPackets: base + 9n,
    steeredBytes: base + 900n,
    droppedPackets: base + 1n,
    droppedBytes: base + 100n,
    txPackets: base + 5n,
    txBytes: base + 500n,
    missedPackets: base + 3n,
    directPackets: base + 4n,
    offCpuPackets: base + 2n,
  };
}

const counters: DataplaneCounters = {
  rxPackets: 20n,
  rxBytes: 2000n,
  parsed: 17n,
  unparsed: { not_ip: 2n, bad_ihl: 1n },
  drops: { rule: 2n, limit_rule: 3n, limit_flow: 4n },
  redirected: 12n,
  passed: 1n,
  received: 11n,
  notReceived: 1n,
  flowsCreated: 8n,
  flowsEvicted: 3n,
  flowTableBusy: 21n,
  reclassified: 22n,
  limiterContended: 23n,
  metadataFailed: 24n,
  txUnsteeredPackets: 25n,
  movesInOrder: 26n,
  movesForced: 27n,
  movesRisked: 28n,
  heldPackets: 29n,
};

/** Latencies in ns, as the kernel counts them. */
export function madeLatency(values: readonly number[]) {
  const buckets = new BigUint64Array(VnicLimits.latencyBuckets);
  for (const ns of values) {
    const msb = Math.floor(Math.log2(ns));
    const index = ns < 16 ? ns : (msb - 3) * 16 + (Math.floor(ns / 2 ** (msb - 4)) & 15);
    buckets[index] = (buckets[index] ?? 0n) + 1n;
  }
  return { count: BigInt(values.length), sumNs: BigInt(values.reduce((sum, ns) => sum + ns, 0)), buckets };
}

export function madeTraces(): DeviceTraces {
  return {
    rings: [
      { cpu: 2, ringFullDrops: 70n, noMemoryDrops: 1n, flow: { enqueued: 90n, taken: 88n, rounds: 12n, sleeps: 5n } },
    ],
    redirectErrors: redirectErrors.map((reason) => (reason === 'ring_full' ? 6n : 0n)),
    exceptions: exceptionActions.map((action) => (action === 'aborted' ? 9n : 0n)),
    polls: { polls: 40n, packets: 400n, exhausted: 2n },
  };
}

export function madeSample(fields: Partial<DeviceSample> = {}): DeviceSample {
  return {
    device: 'vnic0',
    readSeconds: 0.00025,
    traffic: {
      queues: [madeQueue(0), madeQueue(1, 100n)],
      counters,
      depths: [{ cpu: 2, queues: [0, 1], packets: 7n }],
      nodes: [
        { node: 0, packets: 9n },
        { node: 1, packets: 109n },
      ],
    },
    latency: madeLatency([100, 300, 300, 5000, 2_000_000]),
    rtts: [
      { az: '', cells: madeLatency([40_000_000]) },
      { az: 'az-a', cells: madeLatency([200_000, 300_000, 9_000_000]) },
      { az: 'az-b', cells: madeLatency([]) },
    ],
    rules: [
      { rule: '7', verdict: 'pass', packets: 30n, bytes: 3000n },
      { rule: '7', verdict: 'limit', packets: 4n, bytes: 400n },
      { rule: 'other', verdict: 'pass', packets: 2n, bytes: 200n },
    ],
    azs: [
      { name: 'az-a', up: true, usableQueues: 1 },
      { name: 'az-b', up: false, usableQueues: 0 },
    ],
    topFlowBytes: [900n, 800n],
    programs: [{ program: 'vnic_root', runs: 20n, runTimeNs: 1_500_000_000n }],
    traces: madeTraces(),
    driverDrops: [{ queue: 1, driver: 31n, unexplained: 4n }],
    socketTimes: { tcp: madeLatency([900, 1500, 40_000]), udp: madeLatency([700]) },
    switches: {
      failovers: [{ az: 'az-b', cause: 'manual', count: 2 }],
      bucketsMoved: { forced: 40, planned: 3 },
      lastFailoverCommitNs: 1500,
    },
    coalescing: { delayUsecs: 16, changes: 2 },
    redirect: { mode: 'follow', trial: null, device: { flows: 40, obeyed: 30, verdict: 'unknown' } },
    decodeErrors: { traffic: 0, latency: 0, rules: 1, azs: 0 },
    ...fields,
  };
}

/** A machine that counts everything; its cycles share a counter. */
export function madeMachine(fields: Partial<MachineSample> = {}): MachineSample {
  const cpus = (...values: bigint[]) => values.map((value, cpu) => ({ cpu, value }));
  return {
    perf: [
      { event: 'cycles', kind: 'hardware', unavailable: null, cpus: cpus(5000n, 6000n), countedShare: 0.5 },
      { event: 'instructions', kind: 'hardware', unavailable: null, cpus: cpus(7000n, 8000n), countedShare: 1 },
      { event: 'cache_references', kind: 'hardware', unavailable: null, cpus: cpus(90n, 91n), countedShare: 1 },
      { event: 'cache_misses', kind: 'hardware', unavailable: null, cpus: cpus(9n, 10n), countedShare: 1 },
      { event: 'context_switches', kind: 'software', unavailable: null, cpus: cpus(50n, 60n), countedShare: 1 },
      { event: 'cpu_migrations', kind: 'software', unavailable: null, cpus: cpus(0n, 1n), countedShare: 1 },
    ],
    tracepoints: [
      { name: 'xdp_exception', unavailable: null },
      { name: 'napi_poll', unavailable: 'it was not asked for' },
    ],
    fleet: {
      connected: true,
      specRevision: 12,
      appliedRevision: 11,
      canary: false,
      drift: 1,
      problems: 2,
      lastSyncAgeSeconds: 0.25,
    },
    softirqs: [{ cpu: 0, runs: 3n, timeNs: 1_500_000_000n }],
    ...fields,
  };
}
