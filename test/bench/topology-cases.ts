// SPDX-License-Identifier: Apache-2.0
/** What `BENCH=topologies` runs: one line for each machine and its traffic. Data, not code. */

/** Frames by size and how many of a turn have it. */
export type PacketMix = readonly (readonly [bytes: number, weight: number])[];

/** Whole frames, as they are in memory; IMIX as usual: 7 of 64, 4 of 594 and 1 of 1518 bytes on the wire, less the check sequence. */
export const packetMixes = {
  small: [[64, 1]],
  imix: [
    [64, 7],
    [590, 4],
    [1514, 1],
  ],
  bulk: [[1514, 1]],
  requests: [
    [90, 6],
    [300, 3],
    [1514, 1],
  ],
  jumbo: [[3400, 1]],
} as const satisfies Record<string, PacketMix>;

export interface TopologyCase {
  queues: number;
  /** `one`: all queues are of one CPU, apart from the sender's. `all`: dealt out to all that the machine has. */
  cpus: 'one' | 'all';
  azs: number;
  flows: number;
  mix: 'uniform' | 'heavy-tailed';
  packets: keyof typeof packetMixes;
  rules: number;
  /** It is in the short form too. */
  quick?: boolean;
}

export const topologyCases: readonly TopologyCase[] = [
  { queues: 1, cpus: 'one', azs: 1, flows: 10, mix: 'uniform', packets: 'small', rules: 0 },
  { queues: 1, cpus: 'one', azs: 1, flows: 1000, mix: 'uniform', packets: 'bulk', rules: 10 },
  { queues: 4, cpus: 'one', azs: 1, flows: 10, mix: 'uniform', packets: 'small', rules: 10 },
  { queues: 4, cpus: 'one', azs: 2, flows: 1000, mix: 'heavy-tailed', packets: 'imix', rules: 100 },
  { queues: 4, cpus: 'all', azs: 2, flows: 1000, mix: 'uniform', packets: 'imix', rules: 100 },
  { queues: 8, cpus: 'one', azs: 3, flows: 10_000, mix: 'uniform', packets: 'requests', rules: 1000 },
  { queues: 8, cpus: 'all', azs: 2, flows: 10_000, mix: 'heavy-tailed', packets: 'imix', rules: 0 },
  { queues: 32, cpus: 'one', azs: 3, flows: 1000, mix: 'uniform', packets: 'small', rules: 1000 },
  { queues: 32, cpus: 'one', azs: 3, flows: 10_000, mix: 'uniform', packets: 'imix', rules: 1000, quick: true },
  { queues: 32, cpus: 'one', azs: 3, flows: 100_000, mix: 'heavy-tailed', packets: 'imix', rules: 10_000 },
  { queues: 32, cpus: 'all', azs: 5, flows: 100_000, mix: 'uniform', packets: 'requests', rules: 10_000 },
  { queues: 32, cpus: 'one', azs: 5, flows: 1_000_000, mix: 'uniform', packets: 'small', rules: 100_000 },
  { queues: 32, cpus: 'one', azs: 5, flows: 1_000_000, mix: 'heavy-tailed', packets: 'imix', rules: 100_000 },
  { queues: 32, cpus: 'one', azs: 3, flows: 1000, mix: 'uniform', packets: 'jumbo', rules: 1000 },
];

const many = (count: number, what: string): string => `${count.toLocaleString('en')} ${what}${count === 1 ? '' : 's'}`;

export function topologyName({ queues, cpus, azs, flows, mix, packets, rules }: TopologyCase): string {
  const cpu = cpus === 'one' ? '1 CPU' : 'all CPUs';
  return `${many(queues, 'queue')}, ${cpu}, ${many(azs, 'AZ')}, ${many(flows, 'flow')} ${mix}, ${packets}, ${many(rules, 'rule')}`;
}

/** /16 networks of 10.0.0.0/12 for each AZ, the same number for each; what is left over is of no AZ. */
export function azsOf({ queues, azs }: Pick<TopologyCase, 'queues' | 'azs'>): unknown[] {
  const each = Math.floor(16 / azs);
  const first = (az: number): number => Math.floor((az * queues) / azs);
  return Array.from({ length: azs }, (_, az) => ({
    name: `az-${'abcde'[az]}`,
    queues: `${first(az)}-${first(az + 1) - 1}`,
    prefixes: Array.from({ length: each }, (_network, index) => `10.${az * each + index}.0.0/16`),
  }));
}
