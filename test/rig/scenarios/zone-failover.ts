// SPDX-License-Identifier: Apache-2.0
/** The demo's failover: one zone dies, is seen, comes back; with what arrived in each moment of it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Slices } from '../checker.ts';
import type { Rig } from '../topology.ts';
import { outsideGroup, ZoneRun } from '../zone-run.ts';
import { loseZone, type ZoneLoss } from './zone-loss.ts';

const SLICE_MS = 2;
const BEFORE_MS = 600;

export interface ZoneFailover {
  az: string;
  loss: ZoneLoss;
  sent: number;
  lost: number;
  /** Flows on a queue that no table named. */
  strayFlows: number;
  packetsPerSecond: number;
  slices: Slices;
  /** Packets by slice, by where they came from: the zones by name, then addresses of no zone. */
  bySource: { name: string; packets: Float64Array }[];
}

export async function checkZoneFailover(
  rig: Rig,
  options: { az: string; flows: number; outsideFlows: number; ratePps: number; outageMs: number; settleMs: number },
): Promise<ZoneFailover> {
  const { az, flows, outsideFlows, ratePps, outageMs, settleMs } = options;
  using run = await ZoneRun.start(rig, {
    flows,
    outsideFlows,
    ratePps,
    durationMs: 120_000,
    sliceMs: SLICE_MS,
    slices: 8192,
  });
  await sleep(BEFORE_MS);
  const home = run.view.table(run.view.activeTable());
  const loss = await loseZone(run, { az, outageMs, settleMs, cutLink: true });
  const during = run.view.table(run.view.az(rig.az(az).index).tableAfter);
  // Of the time that is told: traffic that is slowed down at the end is no part of it.
  const slices = run.checker.slices();
  const { sent, report } = await run.end();
  return {
    az,
    loss,
    sent: sent.sent,
    lost: report.lost,
    strayFlows: run.strayFlows(report, [home, during]),
    packetsPerSecond: loss.packetsPerSecond,
    slices,
    bySource: [
      ...rig.azs.map(({ name, index }) => ({ name, packets: slices.groupPackets[index]! })),
      { name: 'no zone', packets: slices.groupPackets[outsideGroup]! },
    ],
  };
}
