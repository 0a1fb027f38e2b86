// SPDX-License-Identifier: Apache-2.0
/** What a fleet is put through, and how long it takes: policies, AZs declared down, and everything that can happen to etcd. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type FleetDaemon, type FleetRig, policyOf } from '../fleet.ts';
import { FleetTraffic, type TrafficResult } from '../fleet-traffic.ts';

const PATIENCE_MS = 60_000;
/** Longer than all nodes take to tell the store of what came before, on CPUs that they share. */
const REST_MS = 1000;

type IsIt = (msg: string, fields: Record<string, unknown>) => boolean;

/**
 * Milliseconds from the command to the moment at which the last node has told that it is done, by its log. Rejects with
 * what the command rejects with.
 */
async function untilAllTell(
  nodes: readonly FleetDaemon[],
  what: string,
  isIt: IsIt,
  command: () => Promise<unknown>,
): Promise<number> {
  const all = Promise.withResolvers<number>();
  const waiting = new Set(nodes);
  for (const node of nodes) {
    node.onLine = ({ msg, fields, atMs }) => {
      if (isIt(msg, fields) && waiting.delete(node) && waiting.size === 0) all.resolve(atMs);
    };
  }
  const timer = setTimeout(() => {
    const last = [...waiting].map(({ name, log }) => `${name} ${JSON.stringify(log.slice(-4))}`);
    all.reject(new Error(`${what}: in vain: ${last.join('\n')}`));
  }, PATIENCE_MS);
  // Nobody waits for it where the command fails.
  all.promise.catch(() => undefined);
  try {
    const start = performance.now();
    await command();
    return (await all.promise) - start;
  } finally {
    clearTimeout(timer);
    for (const node of nodes) node.onLine = null;
  }
}

/** Milliseconds from the command to the last node's having it in effect. */
export async function measurePolicy(rig: FleetRig, version: number, member = rig.etcd.members[0]!): Promise<number> {
  const { spec } = await rig.operate((operator) => operator.overview(), member);
  const revision = (spec?.revision ?? 0) + 1;
  return await untilAllTell(
    rig.nodes,
    `revision ${revision}`,
    (msg, fields) => msg === 'fleet.applied' && fields['revision'] === revision,
    () => rig.operate((operator) => operator.apply(policyOf(version)), member),
  );
}

/**
 * Milliseconds from the command to the last node's having the AZ out of use, by when each node began the switch (to a
 * table that stands by: it takes microseconds). What nodes do after it, such as preparing for the next loss, is not
 * waited for. The AZ is taken back after that. Begins with nodes at rest: an AZ is not lost right after it came back.
 */
export async function measureAz(rig: FleetRig, az: string): Promise<number> {
  await sleep(REST_MS);
  const start = Date.now();
  await untilAllTell(
    rig.nodes,
    `${az} down`,
    (msg, { cause, az: name }) => msg === 'az.failed' && cause === 'fleet' && name === az,
    () => rig.operate((operator) => operator.failAz(az, { reason: 'measured', force: false })),
  );
  const since = await Promise.all(
    rig.nodes.map(async (node) => {
      const status = await node.ask<{ since: string }>('GET', `/api/v1/devices/eth0/azs/${az}`);
      return Date.parse(status.since);
    }),
  );
  await untilAllTell(
    rig.nodes,
    `${az} up`,
    (msg, { az: name }) => msg === 'az.recovered' && name === az,
    () => rig.operate((operator) => operator.recoverAz(az)),
  );
  return Math.max(...since) - start;
}

interface SpecBody {
  azs: { name: string }[];
  rules: { limit: { rate: string } }[];
}

/** Looks at nodes, one after the other, until it is stopped; counts sets of which only a part is there. */
export class HalfSetWatch {
  readonly #nodes: readonly FleetDaemon[];
  readonly #running: Promise<void>;
  #isOver = false;
  looks = 0;
  halves = 0;

  constructor(rig: FleetRig) {
    this.#nodes = rig.nodes;
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    for (let turn = 0; !this.#isOver; turn++) {
      const node = this.#nodes[turn % this.#nodes.length]!;
      const { azs, rules } = await node.ask<SpecBody>('GET', '/api/v1/devices/eth0/spec');
      const rates = new Set(rules.map(({ limit }) => limit.rate));
      this.looks++;
      if (azs.length !== 2 || rates.size > 1 || (rules.length !== 2 && rules.length !== 0)) this.halves++;
      await sleep(40);
    }
  }

  async stop(): Promise<{ looks: number; halves: number }> {
    this.#isOver = true;
    await this.#running;
    return { looks: this.looks, halves: this.halves };
  }
}

export interface FaultResult {
  name: string;
  /** From the command to all nodes, given while the fault lasts; null: etcd cannot take it then. */
  duringMs: number | null;
  /** From the end of the fault to the last node's having the policy that was given at that moment. */
  afterMs: number;
  traffic: TrafficResult;
  looks: number;
  /** Looks at which a part of a set was in effect. */
  halves: number;
}

export interface Fault {
  name: string;
  /** Does the harm; gives the member that still takes commands, or null. */
  begin(rig: FleetRig): Promise<number | null>;
  /** How long it lasts before anything is asked. */
  holdMs: number;
  end(rig: FleetRig): Promise<void>;
}

/** Members but the one: any of them has a majority with the third. */
function another(rig: FleetRig, not: number): number {
  return rig.etcd.members.findIndex((_, index) => index !== not);
}

let hurt = 0;

export function faults({ awayMs }: { awayMs: number }): Fault[] {
  const leaderOf = async (rig: FleetRig): Promise<number> => rig.etcd.members.indexOf(await rig.etcd.leader());
  return [
    {
      name: 'one member frozen',
      holdMs: 0,
      begin: async (rig) => {
        hurt = another(rig, await leaderOf(rig));
        rig.etcd.members[hurt]!.freeze();
        return await leaderOf(rig);
      },
      end: async (rig) => rig.etcd.members[hurt]!.thaw(),
    },
    {
      name: 'one member killed',
      holdMs: 0,
      begin: async (rig) => {
        hurt = another(rig, await leaderOf(rig));
        await rig.etcd.members[hurt]!.kill();
        return await leaderOf(rig);
      },
      end: async (rig) => rig.etcd.members[hurt]!.run(),
    },
    {
      name: 'the leader killed',
      holdMs: 5000,
      begin: async (rig) => {
        hurt = await leaderOf(rig);
        await rig.etcd.members[hurt]!.kill();
        return another(rig, hurt);
      },
      end: async (rig) => rig.etcd.members[hurt]!.run(),
    },
    {
      name: 'a member and half of the nodes cut off',
      holdMs: 3000,
      begin: async (rig) => {
        hurt = await leaderOf(rig);
        rig.network.setConnected([rig.network.members[hurt]!, ...half(rig.network.nodes)], false);
        return null;
      },
      end: async (rig) => rig.network.setConnected([rig.network.members[hurt]!, ...half(rig.network.nodes)], true),
    },
    {
      name: `etcd gone for ${Math.round(awayMs / 1000)} s`,
      holdMs: awayMs,
      begin: async (rig) => {
        await Promise.all(rig.etcd.members.map((member) => member.kill()));
        return null;
      },
      end: async (rig) => {
        for (const member of rig.etcd.members) member.run();
        await rig.etcd.ready();
      },
    },
  ];
}

function half<T>(list: readonly T[]): T[] {
  return list.slice(0, Math.ceil(list.length / 2));
}

/** Fewer would not show a loss. */
const ENOUGH_PACKETS = 150;

/** Traffic runs all the time; it has to be whole, whatever happens to etcd. */
export async function endure(rig: FleetRig, fault: Fault, version: number): Promise<FaultResult> {
  const traffic = await FleetTraffic.start(rig.network, rig.pids);
  const halfSets = new HalfSetWatch(rig);
  try {
    const member = await fault.begin(rig);
    let duringMs: number | null = null;
    try {
      await sleep(fault.holdMs);
      if (member !== null) duringMs = await measurePolicy(rig, version, rig.etcd.members[member]!);
    } finally {
      await fault.end(rig);
    }
    const start = performance.now();
    const afterMs = (await giveUntilTaken(rig, version + 1)) - start;
    await traffic.atLeast(ENOUGH_PACKETS);
    const { looks, halves } = await halfSets.stop();
    return { name: fault.name, duringMs, afterMs, traffic: await traffic.stop(), looks, halves };
  } catch (error) {
    traffic.kill();
    throw error;
  }
}

/** The command is given again until a member takes it: the members elect a leader first. Gives the moment of the last node. */
async function giveUntilTaken(rig: FleetRig, version: number): Promise<number> {
  const deadline = performance.now() + PATIENCE_MS;
  for (let turn = 0; ; turn++) {
    const member = rig.etcd.members[turn % rig.etcd.members.length]!;
    const start = performance.now();
    try {
      return start + (await measurePolicy(rig, version, member));
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
  }
}
