// SPDX-License-Identifier: Apache-2.0
/** Random queues and AZs, and random sequences of losing and regaining queues, for property tests. */
import fc from 'fast-check';
import type { AzSpec, QueueSpec, Topology } from '../../src/steering/queues.ts';

/** AZ of each queue (0: none) and weight of each AZ. */
export function makeTopology(azOfQueue: readonly number[], weights: readonly number[]): Topology {
  const queues = azOfQueue.map((az, index): QueueSpec => {
    return { index, az: az === 0 ? null : az, cpu: index, numaNode: 0, usable: true };
  });
  const azs = weights.map((weight, i): AzSpec => {
    const own = queues.filter((queue) => queue.az === i + 1).map((queue) => queue.index);
    return { index: i + 1, name: `az-${'abcdefgh'[i]}`, weight, queues: own };
  });
  return { queues, azs };
}

/** The same number of queues in each AZ, in contiguous ranges. */
export function evenTopology(queueCount: number, azCount: number): Topology {
  const azOfQueue = Array.from({ length: queueCount }, (_, i) => Math.floor((i * azCount) / queueCount) + 1);
  return makeTopology(
    azOfQueue,
    Array.from({ length: azCount }, () => 1),
  );
}

function topologies(weight: fc.Arbitrary<number>): fc.Arbitrary<Topology> {
  return fc
    .tuple(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 0, max: 8 }))
    .chain(([queueCount, azCount]) =>
      fc.tuple(
        fc.array(fc.integer({ min: 0, max: azCount }), { minLength: queueCount, maxLength: queueCount }),
        fc.array(weight, { minLength: azCount, maxLength: azCount }),
      ),
    )
    .map(([azOfQueue, weights]) => makeTopology(azOfQueue, weights));
}

/** 1 to 64 queues, 0 to 8 AZs, some of them without queues, queues without AZ. */
export const equalWeightTopologies = topologies(fc.constant(1));

/** The same with weights from 0.01 to 10,000. */
export const weightedTopologies = topologies(
  fc.oneof(
    fc.integer({ min: 1, max: 10 }),
    fc.integer({ min: 1, max: 10_000 }).map((hundredths) => hundredths / 100),
    fc.constant(10_000),
  ),
);

export interface HealthStep {
  /** lose, gain: only that. mixed: both. The masks say for which queues. */
  kind: 'lose' | 'gain' | 'mixed' | 'gain-all';
  lose: bigint;
  gain: bigint;
}

const wideMask = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
/** Few queues at a time, or about half, or nearly all. */
const queueSets = fc
  .tuple(wideMask, wideMask, wideMask, fc.constantFrom('few', 'half', 'most'))
  .map(([a, b, c, size]) => (size === 'few' ? a & b & c : size === 'half' ? a : a | b | c));

export const healthSteps: fc.Arbitrary<HealthStep[]> = fc.array(
  fc.record({
    kind: fc.constantFrom('lose', 'lose', 'gain', 'mixed', 'gain-all'),
    lose: queueSets,
    gain: queueSets,
  }),
  { minLength: 1, maxLength: 5 },
);

export function applyStep(queues: readonly QueueSpec[], step: HealthStep): QueueSpec[] {
  const has = (mask: bigint, queue: number): boolean => ((mask >> BigInt(queue)) & 1n) === 1n;
  return queues.map((queue) => {
    const gained = step.kind === 'gain-all' || (step.kind !== 'lose' && has(step.gain, queue.index));
    const lost = (step.kind === 'lose' || step.kind === 'mixed') && has(step.lose, queue.index);
    return { ...queue, usable: (queue.usable || gained) && !lost };
  });
}
