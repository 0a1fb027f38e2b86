// SPDX-License-Identifier: Apache-2.0
/** Live traffic through zones that die and come back, with every packet of every flow accounted for at each step. */
import { setTimeout as sleep } from 'node:timers/promises';
import { bucketOf, flowHash } from '../../src/steering/hash.ts';
import { countBuckets, type SteeringTable } from '../../src/steering/table.ts';
import { attachChecker, type Checker, type CheckReport, type FlowCounts } from './checker.ts';
import { hashKeyOf, makeFlows, type RigFlow } from './flows.ts';
import { type Generator, type GeneratorReport, startGenerator } from './generator.ts';
import type { StreamCut } from './generator-child.ts';
import { KernelView, type Moves, waitFor } from './kernel-view.ts';
import type { Rig } from './topology.ts';

/** Below the rate from which on a zone's silence says something, and denser than silence lasts. */
const CALM_PPS = 500;
const CALM_MS = 150;
/** The watch looks at intervals: it sees a somewhat longer silence than there was. */
const WAS_SILENT = 0.9;

export interface ZoneRunOptions {
  flows: number;
  /** Of those, so many are of no AZ: they use the queues of all. They are sent by the last AZ's generator. */
  outsideFlows: number;
  ratePps: number;
  durationMs: number;
  sliceMs?: number;
  slices?: number;
}

/** What happened to flows between two moments. */
export interface Harm {
  /** Flows that no table moved, of zones that live. */
  survivingFlows: number;
  lostSurviving: number;
  reorderedSurviving: number;
  /** All other flows of zones that live. */
  movedFlows: number;
  lostMoved: number;
  reorderedMoved: number;
  /** Of the zone itself. */
  lostOfZone: number;
  reorderedOfZone: number;
}

export interface TableChange {
  /** Buckets that changed their queue. */
  moved: number;
  /** Buckets on queues that are lost now. */
  onLost: number;
  /** Moved although their queue was not lost. */
  collateral: number;
  /** Largest difference between two queues of a row of the new table, in buckets. */
  unevenBuckets: number;
}

/** The difference of two tables, of which the second uses fewer queues. */
export function compareTables(from: SteeringTable, to: SteeringTable): TableChange {
  const change = { moved: 0, onLost: 0, collateral: 0, unevenBuckets: 0 };
  from.rows.forEach((row, index) => {
    row.forEach((queue, bucket) => {
      const isLost = ((to.usableQueues >> BigInt(queue)) & 1n) === 0n;
      const hasMoved = to.rows[index]?.[bucket] !== queue;
      if (isLost) change.onLost++;
      if (hasMoved) change.moved++;
      if (hasMoved && !isLost) change.collateral++;
    });
    const counts = [...countBuckets(to.rows[index] ?? row)].filter((count) => count > 0);
    change.unevenBuckets = Math.max(change.unevenBuckets, Math.max(...counts) - Math.min(...counts));
  });
  return change;
}

export const isSameTable = (a: SteeringTable, b: SteeringTable): boolean =>
  a.usableQueues === b.usableQueues &&
  a.rows.every((row, index) => row.every((queue, bucket) => b.rows[index]?.[bucket] === queue));

export interface Cut extends StreamCut {
  az: string;
  row: number;
  tableBefore: number;
  /** How often the zone was lost before. */
  losses: number;
}

/** The zone was silent before it was cut: the generator was kept from its work for so long. */
export class ZoneWasSilent extends Error {}

export class ZoneRun implements Disposable {
  readonly rig: Rig;
  readonly view: KernelView;
  readonly checker: Checker;
  readonly generator: Generator;
  readonly flows: readonly RigFlow[];
  readonly startNs = process.hrtime.bigint();
  readonly #places: readonly { row: number; bucket: number }[];

  private constructor(rig: Rig, parts: Pick<ZoneRun, 'view' | 'checker' | 'generator' | 'flows'>) {
    this.rig = rig;
    this.view = parts.view;
    this.checker = parts.checker;
    this.generator = parts.generator;
    this.flows = parts.flows;
    const hashSeed = parts.view.hashSeed();
    this.#places = parts.flows.map((flow) => ({
      row: flow.outside ? 0 : rig.az(flow.az).index,
      bucket: bucketOf(flowHash(hashKeyOf(flow), hashSeed)),
    }));
  }

  /** The rig's device is attached, with a queue before each frame for the checker. Resolves while traffic flows. */
  static async start(rig: Rig, options: ZoneRunOptions): Promise<ZoneRun> {
    const { flows: count, outsideFlows, ratePps, durationMs, sliceMs = 10, slices = 4096 } = options;
    const flows = zoneFlows(rig, count, outsideFlows);
    const view = new KernelView(rig.native, { name: rig.device, netns: rig.netns });
    let checker: Checker | undefined;
    try {
      checker = attachChecker(rig, { flows, sliceMs, slices });
      for (const { id, outside } of flows) if (outside) checker.expect(id, { group: outsideGroup });
      const generator = await startGenerator(rig, { flows, ratePps, durationMs });
      return new ZoneRun(rig, { view, checker, generator, flows });
    } catch (error) {
      checker?.close();
      view.close();
      throw error;
    }
  }

  /** Waits until the kernel would see the zone fall silent, and has a table for that. How often it was lost before. */
  async armed(az: string): Promise<number> {
    const row = this.rig.az(az).index;
    await waitFor(`${az} is not in use`, () => !this.view.isLost(row));
    await waitFor(`${az} is not watched or not busy`, () => this.view.isArmed(row));
    await waitFor(`no table is prepared for losing ${az}`, () => this.view.hasStandby(row));
    return this.view.az(row).losses;
  }

  /**
   * The zone dies: its part of the generator makes no more packets. Nobody is told. Throws when it was taken for dead
   * since `losses` was read; `ZoneWasSilent` where that was right.
   */
  async cut(az: string, losses?: number): Promise<Cut> {
    const row = this.rig.az(az).index;
    const [tableBefore, now] = [this.view.activeTable(), this.view.az(row)];
    const cut = await this.generator.cut(az);
    if (losses !== undefined && now.losses !== losses) {
      const gapMs = cut.longestGapNs / 1e6;
      const text = `${az} was lost before it was cut: not heard of for ${Number(now.lostAfterNs) / 1e6} ms, its longest gap was ${gapMs} ms`;
      throw cut.longestGapNs >= WAS_SILENT * Number(now.silenceNs) ? new ZoneWasSilent(text) : new Error(text);
    }
    return { az, row, tableBefore, losses: now.losses, ...cut };
  }

  /** Waits for the kernel's switch. Milliseconds from the zone's last packet to it. */
  async lost({ az, row, losses, lastNs }: Cut, timeoutMs = 10_000): Promise<{ detectMs: number; lostNs: bigint }> {
    await waitFor(`the kernel has not seen that ${az} is lost`, () => this.view.az(row).losses > losses, timeoutMs);
    const { lostNs } = this.view.az(row);
    return { detectMs: Number(lostNs - lastNs) / 1e6, lostNs };
  }

  async restore(az: string): Promise<void> {
    await this.generator.restore(az);
  }

  counts(): FlowCounts {
    return this.checker.counts();
  }

  moves(): Moves {
    return this.view.moves();
  }

  /** What the flows suffered from one moment to another, while some zones' tables were these. */
  harm(before: FlowCounts, after: FlowCounts, tables: readonly SteeringTable[], deadAz: string | null): Harm {
    const harm: Harm = {
      survivingFlows: 0,
      lostSurviving: 0,
      reorderedSurviving: 0,
      movedFlows: 0,
      lostMoved: 0,
      reorderedMoved: 0,
      lostOfZone: 0,
      reorderedOfZone: 0,
    };
    this.flows.forEach((flow, index) => {
      const { row, bucket } = this.#places[index]!;
      const lost = after.missing[index]! - before.missing[index]!;
      const reordered = after.reordered[index]! - before.reordered[index]!;
      if (flow.az === deadAz) {
        harm.lostOfZone += lost;
        harm.reorderedOfZone += reordered;
      } else if (new Set(tables.map((table) => table.rows[row]?.[bucket])).size === 1) {
        harm.survivingFlows++;
        harm.lostSurviving += lost;
        harm.reorderedSurviving += reordered;
      } else {
        harm.movedFlows++;
        harm.lostMoved += lost;
        harm.reorderedMoved += reordered;
      }
    });
    return harm;
  }

  /** How many flows were seen on a queue that none of the tables gives them. */
  strayFlows(report: CheckReport, tables: readonly SteeringTable[]): number {
    return report.flows.filter(({ queues }, index) => {
      const { row, bucket } = this.#places[index]!;
      return queues.some((queue) => tables.every((table) => table.rows[row]?.[bucket] !== queue));
    }).length;
  }

  /** How many flows have another queue in the second table than in the first. */
  flowsThatMove(from: SteeringTable, to: SteeringTable): number {
    return this.#places.filter(({ row, bucket }) => from.rows[row]?.[bucket] !== to.rows[row]?.[bucket]).length;
  }

  /**
   * Ends the traffic as traffic ends, not at one blow: zones that are watched would all be dead. Everything that was sent
   * is in the report, or lost.
   */
  async end(): Promise<{ sent: GeneratorReport; report: CheckReport }> {
    await calmDown(this.generator, this.rig.azs.length);
    const sent = await this.generator.stop();
    await this.checker.settled(sent.sent);
    return { sent, report: this.checker.report(sent.sentByFlow) };
  }

  close(): void {
    // It may have ended already, or its process died: then that was told before.
    void this.generator.stop().catch(() => undefined);
    this.checker.close();
    this.view.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Where the checker counts the flows of no AZ over time. */
export const outsideGroup = 15;

/** Slows the zones down until none is so busy that its silence would say something. */
export async function calmDown(generator: Generator, azs: number): Promise<void> {
  generator.setRate(CALM_PPS * azs);
  await sleep(CALM_MS);
}

function zoneFlows(rig: Rig, count: number, outsideFlows: number): RigFlow[] {
  const inside = makeFlows({ count: count - outsideFlows, azs: rig.azs, host: rig.host });
  const outside = makeFlows({
    count: outsideFlows,
    azs: rig.azs.slice(-1),
    host: rig.host,
    firstId: inside.length,
    outside: true,
  });
  return [...inside, ...outside];
}
