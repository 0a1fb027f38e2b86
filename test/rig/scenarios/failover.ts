// SPDX-License-Identifier: Apache-2.0
/** An AZ is failed and recovered by hand under load; every packet of every flow is accounted for. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { AzChange } from '../../../src/app/device-status.ts';
import type { SteeringTable } from '../../../src/steering/table.ts';
import { attachChecker } from '../checker.ts';
import { makeFlows } from '../flows.ts';
import { startGenerator } from '../generator.ts';
import { expectedQueues, type Setting } from './setting.ts';

export interface FailoverResult {
  az: string;
  flows: number;
  packetsPerSecond: number;
  commitUs: number;
  bucketsOnFailed: number;
  bucketsMoved: number;
  /** Buckets that moved although their queue was not lost: counted in the kernel's tables, not taken from the planner. */
  collateral: number;
  sent: number;
  lost: number;
  survivingFlows: number;
  lostSurviving: number;
  reorderedSurviving: number;
  wrongQueue: number;
  continuity: number;
  recovery: { moved: number; homeTableBack: boolean; lost: number; reordered: number };
  /** Packets on each queue before, during and after. */
  perQueue: { before: number[]; during: number[]; after: number[] };
  /** Packets in slices of `sliceMs`: of the failed AZ's queues, and of all others. */
  timeline: { sliceMs: number; onFailed: number[]; onOthers: number[]; failedAtMs: number; recoveredAtMs: number };
}

const isOn = (queues: ReadonlySet<number>) => (queue: number) => queues.has(queue);

function movedBuckets(
  from: SteeringTable,
  to: SteeringTable,
  lost: ReadonlySet<number>,
): { moved: number; collateral: number } {
  let moved = 0;
  let collateral = 0;
  from.rows.forEach((row, index) => {
    row.forEach((queue, bucket) => {
      if (to.rows[index]?.[bucket] === queue) return;
      moved++;
      if (!lost.has(queue)) collateral++;
    });
  });
  return { moved, collateral };
}

const sameTable = (a: SteeringTable, b: SteeringTable): boolean => {
  const { moved } = movedBuckets(a, b, new Set());
  return moved === 0 && a.usableQueues === b.usableQueues;
};

/** Three phases of `phaseMs` each: all well, the AZ failed, recovered. */
export async function checkFailover(
  setting: Setting,
  options: { az: string; flows: number; ratePps: number; phaseMs: number },
): Promise<FailoverResult> {
  const { rig, controller, device } = setting;
  const flows = makeFlows({ count: options.flows, azs: rig.azs, host: rig.host });
  const lostQueues = new Set(
    controller.withDevice(device, (open) => open.azs().find((az) => az.name === options.az)?.queues ?? []),
  );
  using checker = attachChecker(rig, { flows });
  const home = setting.activeTable();
  const seed = setting.hashSeed();
  const queuesIn = (table: SteeringTable): Map<number, number> =>
    expectedQueues(flows, table, { seed, azIndex: (name) => rig.az(name).index });
  const homeQueues = queuesIn(home);

  const durationMs = 3 * options.phaseMs;
  const generator = await startGenerator(rig, { flows, ratePps: options.ratePps, durationMs });
  const change = async (action: () => AzChange): Promise<{ result: AzChange; atNs: bigint }> => {
    await sleep(options.phaseMs);
    const result = action();
    return { result, atNs: process.hrtime.bigint() };
  };
  const failed = await change(() => controller.withDevice(device, (open) => open.failAz(options.az)));
  const during = setting.activeTable();
  const recovered = await change(() => controller.withDevice(device, (open) => open.recoverAz(options.az)));
  const after = setting.activeTable();
  const sent = await generator.finished;
  await checker.settled(sent.sent);
  const report = checker.report(sent.sentByFlow);

  const duringQueues = queuesIn(during);
  const surviving = new Set(flows.map(({ id }) => id).filter((id) => homeQueues.get(id) === duringQueues.get(id)));
  let lostSurviving = 0;
  let reorderedSurviving = 0;
  let reorderedMoved = 0;
  let lostMoved = 0;
  let wrongQueue = 0;
  for (const seen of report.flows) {
    const lost = (sent.sentByFlow.get(seen.id) ?? 0) - (seen.received - seen.duplicates);
    const allowed = new Set([homeQueues.get(seen.id), duringQueues.get(seen.id)]);
    if (seen.queues.some((queue) => !allowed.has(queue))) wrongQueue++;
    if (surviving.has(seen.id)) {
      lostSurviving += lost;
      reorderedSurviving += seen.reordered;
    } else {
      lostMoved += lost;
      reorderedMoved += seen.reordered;
    }
  }
  const { moved, collateral } = movedBuckets(home, during, lostQueues);
  const slices = checker.slices();
  const sliceOf = (ns: bigint): number => Math.floor(Number(ns - slices.startNs) / 1e6 / slices.sliceMs);
  const [failSlice, recoverSlice] = [sliceOf(failed.atNs), sliceOf(recovered.atNs)];
  const sumQueue = (from: number, to: number): number[] =>
    slices.queuePackets.slice(0, rig.queues).map((list) => list.slice(from, to).reduce((sum, n) => sum + n, 0));
  const sumSlices = (pick: (queue: number) => boolean): number[] =>
    Array.from({ length: slices.count }, (_, slice) =>
      slices.queuePackets.reduce((sum, list, queue) => sum + (pick(queue) ? (list[slice] ?? 0) : 0), 0),
    );
  return {
    az: options.az,
    flows: flows.length,
    packetsPerSecond: (sent.sent * 1000) / sent.elapsedMs,
    commitUs: (failed.result.commitNs ?? 0) / 1000,
    bucketsOnFailed: home.rows.reduce((sum, row) => sum + row.filter(isOn(lostQueues)).length, 0),
    bucketsMoved: moved,
    collateral,
    sent: sent.sent,
    lost: report.lost,
    survivingFlows: surviving.size,
    lostSurviving,
    reorderedSurviving,
    wrongQueue,
    continuity: 1 - report.lost / sent.sent,
    recovery: {
      moved: movedBuckets(during, after, new Set()).moved,
      homeTableBack: sameTable(home, after),
      lost: lostMoved,
      reordered: reorderedMoved,
    },
    perQueue: {
      before: sumQueue(0, failSlice - 10),
      during: sumQueue(failSlice + 2, recoverSlice - 10),
      after: sumQueue(recoverSlice + 2, slices.count),
    },
    timeline: {
      sliceMs: slices.sliceMs,
      onFailed: sumSlices((queue) => lostQueues.has(queue)),
      onOthers: sumSlices((queue) => !lostQueues.has(queue)),
      failedAtMs: failSlice * slices.sliceMs,
      recoveredAtMs: recoverSlice * slices.sliceMs,
    },
  };
}
