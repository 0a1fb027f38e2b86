// SPDX-License-Identifier: Apache-2.0
/** Limits on live traffic, measured behind the dataplane: what arrived in four seconds, the first second set aside. */
import { setTimeout as sleep } from 'node:timers/promises';
import { attachChecker } from '../checker.ts';
import { makeFlows, type RigFlow } from '../flows.ts';
import { startGenerator } from '../generator.ts';
import { limits, ports, type Setting } from './setting.ts';

export interface LimitResult {
  rule: number;
  scope: 'rule' | 'flow';
  flows: number;
  configuredBps: number;
  /** Of all flows together for rule scope; the mean flow's for flow scope. */
  measuredBps: number;
  errorRatio: number;
}

export interface LimitsResult {
  limits: LimitResult[];
  /** Packets sent to and received from the port that a rule drops. */
  droppedSent: number;
  droppedReceived: number;
}

const FRAME_BYTES = 1000;
const WARM_UP_MS = 1000;
const MEASURED_MS = 4000;
/** Counters over time of each kind of traffic; 1 to 3 are the AZs'. */
const groups = { rule: 8, flow: 9, dropped: 10 } as const;

export async function checkLimits(setting: Setting): Promise<LimitsResult> {
  const { rig } = setting;
  const shared = { azs: rig.azs, host: rig.host, frameBytes: FRAME_BYTES };
  const ofRule = makeFlows({ ...shared, count: 6, dport: ports.ruleLimit });
  const ofFlow = makeFlows({ ...shared, count: 3, firstId: 6, dport: ports.flowLimit });
  const ofDrop = makeFlows({ ...shared, count: 3, firstId: 9, dport: ports.dropped });
  const flows = [...ofRule, ...ofFlow, ...ofDrop];
  using checker = attachChecker(rig, { flows });
  const expectGroup = (list: readonly RigFlow[], group: number): void => {
    for (const { id } of list) checker.expect(id, { group });
  };
  expectGroup(ofRule, groups.rule);
  expectGroup(ofFlow, groups.flow);
  expectGroup(ofDrop, groups.dropped);
  // Each flow sends 40 Mbit/s: 240 Mbit/s against the rule's 100, 40 against each flow's 10.
  const ratePps = (flows.length * 40e6) / (8 * FRAME_BYTES);
  const durationMs = WARM_UP_MS + MEASURED_MS + 500;
  const generator = await startGenerator(rig, { flows, ratePps, durationMs });
  const begin = process.hrtime.bigint();
  const sent = await generator.finished;
  await sleep(200);
  const { startNs, sliceMs, groupBytes } = checker.slices();
  const first = Math.ceil((Number(begin - startNs) / 1e6 + WARM_UP_MS) / sliceMs);
  const count = MEASURED_MS / sliceMs;
  const bps = (group: number): number => {
    const bytes = (groupBytes[group] ?? new Float64Array()).slice(first, first + count).reduce((sum, n) => sum + n, 0);
    return (bytes * 8 * 1000) / MEASURED_MS;
  };
  const result = (scope: 'rule' | 'flow', list: readonly RigFlow[], measuredBps: number): LimitResult => {
    const configuredBps = limits[scope].bitsPerSecond;
    return {
      rule: limits[scope].id,
      scope,
      flows: list.length,
      configuredBps,
      measuredBps,
      errorRatio: Math.abs(measuredBps - configuredBps) / configuredBps,
    };
  };
  const report = checker.report();
  const received = (list: readonly RigFlow[]): number =>
    list.reduce((sum, { id }) => sum + (report.flows.find((flow) => flow.id === id)?.received ?? 0), 0);
  return {
    limits: [result('rule', ofRule, bps(groups.rule)), result('flow', ofFlow, bps(groups.flow) / ofFlow.length)],
    droppedSent: ofDrop.reduce((sum, { id }) => sum + (sent.sentByFlow.get(id) ?? 0), 0),
    droppedReceived: received(ofDrop),
  };
}
