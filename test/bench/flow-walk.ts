// SPDX-License-Identifier: Apache-2.0
/** The top flows of large flow tables by the daemon: how long they take, and how long its engine's event loop is kept. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Dataplane } from '../../src/app/dataplane.ts';
import { PinFolder } from '../../src/loader/pins.ts';
import { attachByDaemon, deviceOf } from '../rig/scenarios/daemon.ts';
import type { Rig } from '../rig/topology.ts';
import type { TestDaemon } from '../support/daemon.ts';
import { fillFlowTable } from '../support/fill-flow-table.ts';
import { longestDelayMs, monotonicMs, observingLoop } from '../support/loop-delay.ts';
import { type DistributionResult, distribution } from './distribution.ts';

/** For so many flows. */
const promised = { flows: 200_000, topMs: 100, blockMs: 20 } as const;
const TOP = 20;
/** The first ones compile what they run. */
const WARM_ROUNDS = 5;
const ROUNDS = 30;
/** Until the engine has told of the interval. */
const TOLD_MS = 60;
/** The table that holds what is promised, and the largest. */
const tables = [
  { flows: promised.flows, maxFlows: 262_144 },
  { flows: 1_000_000, maxFlows: 1_048_576 },
] as const;

/** Starts the daemon again, so that it tells of its engine's event loop. */
async function restartObserved(daemon: TestDaemon): Promise<string> {
  const file = path.join(daemon.folder, 'loop');
  await daemon.stop();
  await daemon.run(observingLoop('worker', file));
  return file;
}

async function measureTable(rig: Rig, daemon: TestDaemon, loop: string, flows: number): Promise<DistributionResult[]> {
  const url = `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}/flows?top=${TOP}&by=bytes`;
  const topMs: number[] = [];
  const blockMs: number[] = [];
  for (let round = -WARM_ROUNDS; round < ROUNDS; round++) {
    const start = monotonicMs();
    const { items } = await daemon.ask<{ items: unknown[] }>('GET', url);
    const end = monotonicMs();
    if (items.length !== TOP) throw new Error(`${items.length} flows instead of ${TOP}`);
    await sleep(TOLD_MS);
    if (round < 0) continue;
    topMs.push(end - start);
    blockMs.push(longestDelayMs(loop, start, end));
  }
  const isPromised = flows === promised.flows;
  return [
    distribution(topMs, {
      name: `top ${TOP} of ${flows} flows`,
      unit: 'ms',
      promise: isPromised ? promised.topMs : null,
      method: `GET …/flows?top=${TOP}&by=bytes over the Unix socket, ${ROUNDS} times after ${WARM_ROUNDS}, from the request to the last byte.`,
    }),
    distribution(blockMs, {
      name: `the same: longest block of the engine's event loop`,
      unit: 'ms',
      promise: isPromised ? promised.blockMs : null,
      method: `Of the engine's thread in the daemon, by perf_hooks, in the 20 ms intervals of each request; its resolution of 1 ms is in the figure.`,
    }),
  ];
}

/** The device is attached anew for each table, and stays. */
export async function benchFlowWalk(
  rig: Rig,
  daemon: TestDaemon,
  detach: () => Promise<unknown>,
): Promise<DistributionResult[]> {
  const results: DistributionResult[] = [];
  const loop = await restartObserved(daemon);
  for (const { flows, maxFlows } of tables) {
    await detach();
    await attachByDaemon(rig, daemon, { maxFlows });
    {
      using dataplane = Dataplane.open(rig.native, new PinFolder(rig.native, { name: rig.device, netns: rig.netns }));
      fillFlowTable(dataplane, flows);
    }
    results.push(...(await measureTable(rig, daemon, loop, flows)));
  }
  return results;
}
