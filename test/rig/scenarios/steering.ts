// SPDX-License-Identifier: Apache-2.0
/** Steering: a million packets of ten thousand flows, each held against the queue that the table names for it. */
import { queueMask } from '../../../src/steering/table.ts';
import { attachChecker } from '../checker.ts';
import { makeFlows } from '../flows.ts';
import { startGenerator } from '../generator.ts';
import { expectedQueues, namedQueues, ports, type Setting } from './setting.ts';

export interface SteeringResult {
  flows: number;
  sent: number;
  packets: number;
  lost: number;
  reordered: number;
  wrongQueue: number;
  wrongCpu: number;
  noMetadata: number;
  packetsPerSecond: number;
  perQueue: number[];
  /** Buckets of the fullest queue over the mean, in the row of each AZ; the worst of them. */
  maxOverMean: number;
}

export async function checkSteering(
  setting: Setting,
  options: { flows: number; packets: number; ratePps: number },
): Promise<SteeringResult> {
  const { rig } = setting;
  const shared = { azs: rig.azs, host: rig.host };
  const plain = makeFlows({ ...shared, count: options.flows - 300, dport: ports.plain });
  const named = makeFlows({ ...shared, count: 300, firstId: plain.length, dport: ports.named });
  const flows = [...plain, ...named];
  using checker = attachChecker(rig, { flows });
  const table = setting.activeTable();
  const cpus = setting.cpuOfQueue();
  const expected = expectedQueues(flows, table, {
    seed: setting.hashSeed(),
    azIndex: (name) => rig.az(name).index,
    ruleQueues: (flow) => (flow.dport === ports.named ? queueMask(namedQueues) : undefined),
  });
  for (const [id, queue] of expected) {
    checker.expect(id, { queues: 1n << BigInt(queue), cpus: 1n << BigInt(cpus[queue] ?? 0) });
  }
  const generator = await startGenerator(rig, { flows, ratePps: options.ratePps, packets: options.packets });
  const sent = await generator.finished;
  await checker.settled(sent.sent);
  const report = checker.report(sent.sentByFlow);
  return {
    flows: flows.length,
    sent: sent.sent,
    packets: report.received,
    lost: report.lost,
    reordered: report.reordered,
    wrongQueue: report.wrongQueue,
    wrongCpu: report.wrongCpu,
    noMetadata: report.noMetadata,
    packetsPerSecond: (sent.sent * 1000) / sent.elapsedMs,
    perQueue: report.perQueue.slice(0, rig.queues).map(({ packets }) => packets),
    maxOverMean: Math.max(
      ...table.rows.slice(1, 1 + rig.azs.length).map((row) => {
        const counts = new Map<number, number>();
        for (const queue of row) counts.set(queue, (counts.get(queue) ?? 0) + 1);
        return Math.max(...counts.values()) / (row.length / counts.size);
      }),
    ),
  };
}
