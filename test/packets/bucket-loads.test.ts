// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { BucketLoadMeter, sumBucketLoads } from '../../src/app/bucket-loads.ts';
import { FlowTable } from '../../src/app/flow-table.ts';
import { parsePrefix } from '../../src/steering/rules/prefix.ts';
import { TestDataplane } from '../support/dataplane.ts';
import { flowFrame } from '../support/flow-frames.ts';

describe('bucket loads of a dataplane', () => {
  const v4 = (...last: number[]): Uint8Array => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...last);
  const flow = { dst: v4(10, 9, 0, 1), dport: 80, proto: 17, direction: 0 } as const;
  const fromAz = flowFrame({ ...flow, src: v4(10, 1, 0, 7), sport: 1000 }, 100);
  const fromElsewhere = flowFrame({ ...flow, src: v4(10, 2, 0, 7), sport: 1000 }, 60);
  const az = { name: 'az-a', queues: [0], weight: 1, prefixes: [parsePrefix('10.1.0.0/16')] };

  it('stand in the row of the AZ and in the bucket that explain tells; a second look counts what came since', async () => {
    using dataplane = new TestDataplane({ maxFlows: 4096 });
    dataplane.setRules([], [az]);
    for (let i = 0; i < 1000; i++) dataplane.ingress(fromAz);
    dataplane.ingress(fromElsewhere);
    const meter = new BucketLoadMeter(dataplane.dataplane);
    const first = meter.measure();
    const places = [fromAz, fromElsewhere].map((frame) => dataplane.explain(frame));
    assert.deepEqual(
      places.map((place) => place.az),
      [1, 0],
    );
    const flowsAt = first.flows.flatMap((row, r) =>
      [...row.entries()].filter(([, flows]) => flows > 0).map(([bucket, flows]) => [r, bucket, flows]),
    );
    assert.deepEqual(flowsAt, [
      [0, places[1]!.bucket, 1],
      [1, places[0]!.bucket, 1],
    ]);
    assert.equal(first.windowMs, null);
    assert.ok(first.packetsPerSecond[1]![places[0]!.bucket]! > 100);

    await sleep(50);
    for (let i = 0; i < 10; i++) dataplane.ingress(fromElsewhere);
    const second = meter.measure();
    assert.ok(second.windowMs !== null && second.windowMs >= 50);
    const perWindow = (rows: readonly Float64Array[], row: number): number =>
      Math.round((rows[row]!.reduce((sum, rate) => sum + rate, 0) * second.windowMs!) / 1000);
    assert.deepEqual([perWindow(second.packetsPerSecond, 0), perWindow(second.packetsPerSecond, 1)], [10, 0]);
    assert.deepEqual([perWindow(second.bytesPerSecond, 0), perWindow(second.bytesPerSecond, 1)], [600, 0]);
    using table = new FlowTable(dataplane.dataplane);
    assert.equal(sumBucketLoads(table).windowMs, null);
  });
});
