// SPDX-License-Identifier: Apache-2.0
/** `BENCH=fleet`: twenty daemons and three members of etcd on this machine, policies, AZs declared down, and etcd in trouble. */
import { FleetRig } from '../rig/fleet.ts';
import { endure, type FaultResult, faults, measureAz, measurePolicy } from '../rig/scenarios/fleet.ts';
import { etcdProgram, noEtcd } from '../support/etcd.ts';
import { type DistributionResult, distribution } from './distribution.ts';
import type { Part } from './part.ts';
import { notMeasured } from './result.ts';

export interface FleetBench {
  nodes: number;
  policies: number;
  azs: number;
  /** How long etcd is gone. */
  awayMs: number;
  /** Names of faults; default: all. */
  only?: readonly string[];
}

const promised = { policyMs: 1000, azMs: 500, afterMs: 10_000 } as const;

export async function benchFleet({ nodes, policies, azs, awayMs, only }: FleetBench): Promise<DistributionResult[]> {
  await using rig = await FleetRig.start({ nodes });
  const setting = `${nodes} daemons and 3 members of etcd 3.4 in namespaces of one machine, data on tmpfs`;
  let version = 0;
  // The first one brings AZs and rules, and compiles code on all of them.
  await measurePolicy(rig, ++version);
  const policyMs: number[] = [];
  for (let round = 0; round < policies; round++) policyMs.push(await measurePolicy(rig, ++version));
  await measureAz(rig, 'az-a');
  const azMs: number[] = [];
  for (let round = 0; round < azs; round++) azMs.push(await measureAz(rig, 'az-a'));
  const results = [
    distribution(policyMs, {
      name: 'a policy, from the command to the last node',
      unit: 'ms',
      method: setting,
      promise: promised.policyMs,
      judged: 'p99',
    }),
    distribution(azMs, {
      name: 'an AZ declared down, from the command to the last node',
      unit: 'ms',
      method: setting,
      promise: promised.azMs,
      judged: 'p99',
    }),
  ];
  const endured: FaultResult[] = [];
  for (const fault of faults({ awayMs })) {
    if (only !== undefined && !only.some((name) => fault.name.includes(name))) continue;
    version += 2;
    endured.push(await endure(rig, fault, version));
  }
  return [...results, ...endured.flatMap((one) => told(one, setting)), ...harm(endured, setting)];
}

function told({ name, duringMs, afterMs }: FaultResult, method: string): DistributionResult[] {
  const during = { name: `${name}: a policy meanwhile`, unit: 'ms', method, promise: null };
  const after = { name: `${name}: a policy after it`, unit: 'ms', method, promise: promised.afterMs };
  return [...(duringMs === null ? [] : [distribution([duringMs], during)]), distribution([afterMs], after)];
}

/** Of what nothing is allowed. */
function harm(endured: readonly FaultResult[], setting: string): DistributionResult[] {
  if (endured.length === 0) return [];
  const sent = endured.reduce((sum, { traffic }) => sum + traffic.sent, 0);
  const looks = endured.reduce((sum, one) => sum + one.looks, 0);
  return [
    distribution(
      endured.map(({ traffic }) => traffic.lost),
      { name: `packets lost, of ${sent}`, unit: '', method: setting, promise: 0 },
    ),
    distribution(
      endured.map(({ halves }) => halves),
      { name: `sets of which a part was in effect, in ${looks} looks`, unit: '', method: setting, promise: 0 },
    ),
  ];
}

export const fleetPart: Part = {
  name: 'fleet',
  title: 'a fleet over etcd (SECONDS=n that etcd is gone; default 60)',
  digits: 0,
  inQuick: false,
  run: async ({ quick, seconds }) => {
    if (etcdProgram === null) return { results: [notMeasured('a fleet', 'ms', noEtcd)] };
    const awayMs = (seconds ?? (quick ? 5 : 60)) * 1000;
    const size = quick ? { nodes: 4, policies: 10, azs: 5 } : { nodes: 20, policies: 100, azs: 30 };
    return { results: await benchFleet({ ...size, awayMs }) };
  },
};
