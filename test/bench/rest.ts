// SPDX-License-Identifier: Apache-2.0
/** `BENCH=rest`: what is promised of the daemon, in milliseconds, with traffic on the device. The floor is the promise. */
import { attachByDaemon, checkOneRule, checkRuleSetSwitch, deviceOf } from '../rig/scenarios/daemon.ts';
import { createRig } from '../rig/topology.ts';
import { TestDaemon } from '../support/daemon.ts';
import { quantile } from './measure.ts';
import type { Part } from './part.ts';
import type { Measured } from './result.ts';

/** In milliseconds. */
const promised = { put: 2000, eventLoop: 50, oneRule: 2 } as const;

function against(name: string, values: readonly number[], promise: number): Measured {
  const ratios = values.map((value) => value / promise);
  return {
    name,
    unit: 'ms',
    median: quantile(values, 0.5),
    min: Math.min(...values),
    max: Math.max(...values),
    runs: values.length,
    floor: promise,
    // The worst one has to keep it.
    ratio: Math.max(...ratios),
    ratioSpread: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
    bound: 1,
  };
}

/** Throws if a packet was lost, or met a part of a rule set. */
export async function benchRest(): Promise<Measured[]> {
  using rig = createRig({ id: 'rest' });
  await using daemon = await TestDaemon.start();
  try {
    await attachByDaemon(rig, daemon);
    const lags: number[] = [];
    const puts: number[] = [];
    for (let round = 0; round < 2; round++) {
      const result = await checkRuleSetSwitch(rig, daemon, {
        rules: 100_000,
        switches: 4,
        flows: 2000,
        ratePps: 100_000,
      });
      if (result.lost + result.halfSet > 0) {
        throw new Error(`${result.lost} packets lost, ${result.halfSet} met a part of a rule set, of ${result.sent}`);
      }
      lags.push(result.eventLoopLagMs);
      puts.push(...result.putMs);
    }
    const url = `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}`;
    await daemon.ask('PUT', `${url}/rules`, { body: [] });
    const { effectMs, answerMs } = await checkOneRule(rig, daemon, { changes: 20, ratePps: 50_000 });
    return [
      against('PUT of 100,000 rules, to its answer', puts, promised.put),
      against('event loop of the daemon, longest delay meanwhile', lags, promised.eventLoop),
      against('one rule: first packet that meets it, after the answer', effectMs, promised.oneRule),
      { ...against('one rule: request to answer', answerMs, 1), bound: null },
    ];
  } finally {
    await daemon.send('DELETE', `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}?force=true`);
  }
}

export const restPart: Part = {
  name: 'rest',
  title: 'ms under 100 kpps of traffic, and the worst against what is promised (quartiles)',
  digits: 1,
  inQuick: false,
  run: async () => ({ results: await benchRest() }),
};
