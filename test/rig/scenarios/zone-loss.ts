// SPDX-License-Identifier: Apache-2.0
/** A zone dies under load without anybody telling the product, and comes back. */
import { setTimeout as sleep } from 'node:timers/promises';
import { VnicLoss } from '../../../src/maps/generated/abi.ts';
import { type Moves, waitFor } from '../kernel-view.ts';
import { compareTables, type Harm, isSameTable, type TableChange, type ZoneRun } from '../zone-run.ts';

export interface ZoneLossOptions {
  az: string;
  /** How long the zone stays dead after it was seen. */
  outageMs: number;
  /** Whether the zone's link goes down too, so that not even an answer comes from it. Default false. */
  cutLink?: boolean;
  /** How long flows are watched after the zone is back in use. Default 300. */
  settleMs?: number;
  /** Before the zone dies, and after it was seen dead: what is done to the daemon meanwhile. */
  disturb?: () => Promise<void>;
  mend?: () => Promise<void>;
  recoverTimeoutMs?: number;
}

export interface ZoneLoss {
  cause: 'silence' | 'bfd';
  /** From the zone's last packet to the kernel's switch. */
  detectMs: number;
  /** For how long the kernel had heard nothing then. */
  silentMs: number;
  /** Whether the daemon's heartbeat was stale then. */
  wasStale: boolean;
  /** From the clock's reading on which the kernel decided, to after the switch. */
  commitUs: number;
  /** Of the switch. */
  change: TableChange;
  /** From before the loss until after the recovery. */
  harm: Harm;
  moves: Moves;
  /** From when the zone sends again, of all flows. */
  recovery: Moves & {
    buckets: number;
    /** Flows that it gives another queue. */
    flows: number;
    lost: number;
    reordered: number;
  };
  /** From the zone's first packets to its table being active again. */
  recoverMs: number;
  isHomeAgain: boolean;
  packetsPerSecond: number;
  /** CLOCK_MONOTONIC. */
  lastNs: bigint;
  lostNs: bigint;
  restoredNs: bigint;
  recoveredNs: bigint;
}

const difference = (after: Moves, before: Moves): Moves => ({
  inOrder: after.inOrder - before.inOrder,
  forced: after.forced - before.forced,
  risked: after.risked - before.risked,
  heldPackets: after.heldPackets - before.heldPackets,
});

const increase = (before: Float64Array, after: Float64Array): number =>
  after.reduce((total, count, index) => total + count - before[index]!, 0);

/** Throws when the kernel does not see it, or nobody takes the zone back into use; and `ZoneWasSilent`, to be repeated. */
export async function loseZone(run: ZoneRun, options: ZoneLossOptions): Promise<ZoneLoss> {
  const { az, outageMs, settleMs = 300, recoverTimeoutMs = 30_000 } = options;
  const losses = await run.armed(az);
  const before = { counts: run.counts(), moves: run.moves(), sent: await run.generator.progress() };
  const home = run.view.table(run.view.activeTable());
  await options.disturb?.();
  const cut = await run.cut(az, losses).catch(async (error: unknown) => {
    await options.mend?.();
    await run.restore(az);
    await waitFor(`${az} is back and not in use`, () => !run.view.isLost(run.rig.az(az).index), recoverTimeoutMs);
    throw error;
  });
  if (options.cutLink === true) run.rig.cutAz(az);
  const { detectMs, lostNs } = await run.lost(cut);
  const seen = run.view.az(cut.row);
  const commitUs = Number(lostNs - run.view.leftNs(seen.tableBefore)) / 1000;
  const during = run.view.table(seen.tableAfter);
  await sleep(outageMs);
  await options.mend?.();
  const between = { counts: run.counts(), moves: run.moves() };
  if (options.cutLink === true) run.rig.restoreAz(az);
  const restoredNs = process.hrtime.bigint();
  await run.restore(az);
  const recovered = await waitFor(`${az} is back and not in use`, () => !run.view.isLost(cut.row), recoverTimeoutMs);
  const again = run.view.table(run.view.activeTable());
  await sleep(settleMs);
  const [sent, counts, moves] = [await run.generator.progress(), run.counts(), run.moves()];
  return {
    cause: seen.loss === VnicLoss.bfd ? 'bfd' : 'silence',
    detectMs,
    silentMs: Number(seen.lostAfterNs) / 1e6,
    wasStale: seen.lostStale === 1,
    commitUs,
    change: compareTables(home, during),
    harm: run.harm(before.counts, counts, [home, during], az),
    moves: difference(moves, before.moves),
    recovery: {
      ...difference(moves, between.moves),
      buckets: compareTables(during, again).moved,
      flows: run.flowsThatMove(during, again),
      lost: increase(between.counts.missing, counts.missing),
      reordered: increase(between.counts.reordered, counts.reordered),
    },
    recoverMs: Number(recovered.atNs - restoredNs) / 1e6,
    isHomeAgain: isSameTable(home, again),
    packetsPerSecond: (1000 * (sent.sent - before.sent.sent)) / (sent.elapsedMs - before.sent.elapsedMs),
    lastNs: cut.lastNs,
    lostNs,
    restoredNs,
    recoveredNs: recovered.atNs,
  };
}

export interface HandLoss {
  /** Of the switch to the failure's table and of the one back: from before the store to after it. */
  commitNs: [number, number];
  change: TableChange;
  /** From before the failure until after the recovery. */
  harm: Harm;
  /** Flows that the recovery gives another queue, all of zones that live. */
  plannedMoves: number;
  /** Of the failure. */
  forced: Moves;
  /** Of the recovery; reordered packets are of all flows. */
  planned: Moves & { reordered: number; lost: number };
  isHomeAgain: boolean;
}

/** A living zone's queues are taken out of use and given back by hand: its flows, which go on, have to move twice. */
export async function failByHand(
  run: ZoneRun,
  steps: { fail: () => Promise<number>; recover: () => Promise<number>; pauseMs: number },
): Promise<HandLoss> {
  const home = run.view.table(run.view.activeTable());
  const [counts, moves] = [run.counts(), run.moves()];
  const failNs = await steps.fail();
  const during = run.view.table(run.view.activeTable());
  await sleep(steps.pauseMs);
  const between = { counts: run.counts(), moves: run.moves() };
  const recoverNs = await steps.recover();
  const again = run.view.table(run.view.activeTable());
  await sleep(steps.pauseMs);
  const after = run.counts();
  return {
    commitNs: [failNs, recoverNs],
    change: compareTables(home, during),
    harm: run.harm(counts, after, [home, during], null),
    plannedMoves: run.flowsThatMove(during, again),
    forced: difference(between.moves, moves),
    planned: {
      ...difference(run.moves(), between.moves),
      reordered: increase(between.counts.reordered, after.reordered),
      lost: increase(between.counts.missing, after.missing),
    },
    isHomeAgain: isSameTable(home, again),
  };
}
