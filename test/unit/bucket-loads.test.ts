// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { emptyLook, sumBucketLoads } from '../../src/app/bucket-loads.ts';
import {
  VnicDirection,
  VnicFlow,
  VnicLimits,
  VnicVerdictFlag,
  VnicVerdictLayout,
} from '../../src/maps/generated/abi.ts';
import { bucketCount, rowCount } from '../../src/steering/table.ts';
import { FlowTableMemory } from '../support/flow-table-memory.ts';

/** At 250 jiffies a second, as most kernels have it. jiffies64 starts 300 s before its lower half overflows. */
const startJiffies = 2n ** 32n - 300n * 250n;

interface Flow {
  az?: number;
  hash?: number;
  flags?: number;
  direction?: number;
  packets?: bigint;
  bytes?: bigint;
  droppedPackets?: bigint;
  droppedBytes?: bigint;
  /** Before now. */
  ageSeconds?: number;
  idleSeconds?: number;
}

/** A flow table in plain memory. */
class Table {
  readonly view: FlowTableMemory;

  constructor(entryCount: number, upSeconds = 1000) {
    const jiffies = startJiffies + BigInt(upSeconds * 250);
    this.view = new FlowTableMemory(entryCount, { jiffies, monotonicNs: BigInt(upSeconds) * 1_000_000_000n });
  }

  put(entry: number, flow: Flow, tag = 7): void {
    const { az = 0, hash = 0, flags = 0, direction = VnicDirection.ingress, ageSeconds = 10, idleSeconds = 0 } = flow;
    const { packets = 0n, bytes = 0n, droppedPackets = 0n, droppedBytes = 0n } = flow;
    const verdict = (az << VnicVerdictLayout.azShift) | (flags << VnicVerdictLayout.flagShift);
    const ago = (seconds: number): bigint => this.view.jiffies - BigInt(Math.round(seconds * 250));
    this.view.tags[entry] = tag;
    VnicFlow.put(this.view.data, entry * VnicFlow.size, {
      key: { direction },
      verdict: (7n << 32n) | BigInt(verdict >>> 0),
      hash,
      packets,
      bytes,
      droppedPackets,
      droppedBytes,
      createdJiffies: ago(ageSeconds),
      lastSeenJiffies: ago(idleSeconds),
    });
  }

  /** Time goes on; what is put later is seen later. */
  advance(seconds: number): void {
    this.view.pass(1000 * seconds);
  }
}

/** [row, bucket, value] of what is not 0. */
function cells(rows: readonly (Float64Array | Uint32Array)[]): [number, number, number][] {
  const digits = (value: number): number => Number(value.toPrecision(3));
  return rows.flatMap((row, r) =>
    [...row.keys()].filter((b) => row[b] !== 0).map((b): [number, number, number] => [r, b, digits(row[b]!)]),
  );
}

describe('measured bucket loads', () => {
  it('of one look are the mean rate of each flow since it was first seen, in the row of its AZ', () => {
    const table = new Table(16);
    table.put(3, { az: 2, hash: 0xabc_d123, packets: 1000n, bytes: 500_000n, ageSeconds: 10 });
    table.put(9, { az: 2, hash: 0x123, packets: 500n, bytes: 50_000n, ageSeconds: 5 });
    table.put(10, { az: 8, hash: 0xfff, packets: 2n ** 33n, bytes: 2n ** 41n, ageSeconds: 100, idleSeconds: 9 });
    const { packetsPerSecond, bytesPerSecond, flows, windowMs } = sumBucketLoads(table.view);
    assert.equal(windowMs, null);
    assert.deepEqual(cells(packetsPerSecond), [
      [2, 0x123, 200],
      [8, 0xfff, 85_900_000],
    ]);
    assert.deepEqual(cells(bytesPerSecond), [
      [2, 0x123, 60_000],
      [8, 0xfff, 22_000_000_000],
    ]);
    assert.deepEqual(cells(flows), [
      [2, 0x123, 2],
      [8, 0xfff, 1],
    ]);
    assert.deepEqual([packetsPerSecond.length, packetsPerSecond[0]!.length], [rowCount, bucketCount]);
  });

  it('leave out egress, idle flows, free and busy entries, and flows whose rule names its queues', () => {
    const table = new Table(8);
    const flow = { packets: 10n, bytes: 10n };
    table.put(0, { ...flow, direction: VnicDirection.egress });
    table.put(1, { ...flow, idleSeconds: 11, ageSeconds: 20 });
    table.put(2, flow, 0);
    table.put(3, flow, VnicLimits.flowTagBusy);
    table.put(4, { ...flow, flags: VnicVerdictFlag.queues });
    const { packetsPerSecond, flows } = sumBucketLoads(table.view);
    assert.deepEqual([cells(packetsPerSecond), cells(flows)], [[], []]);
    table.put(4, { ...flow, flags: VnicVerdictFlag.shadow });
    assert.equal(cells(sumBucketLoads(table.view).flows).length, 1);
  });

  it('do not count what was dropped: no queue gets it', () => {
    const table = new Table(2);
    const dropped = { packets: 1000n, bytes: 64_000n, droppedPackets: 900n, droppedBytes: 57_600n };
    table.put(0, { ...dropped, az: 1, flags: VnicVerdictFlag.limitFlow });
    table.put(1, { ...dropped, hash: 5, droppedPackets: 1000n, droppedBytes: 64_000n, flags: VnicVerdictFlag.drop });
    const { packetsPerSecond, bytesPerSecond } = sumBucketLoads(table.view);
    assert.deepEqual(cells(packetsPerSecond), [[1, 0, 10]]);
    assert.deepEqual(cells(bytesPerSecond), [[1, 0, 640]]);
  });

  it('of two looks are what came between them', () => {
    const table = new Table(8);
    const look = emptyLook(8);
    table.put(0, { az: 1, hash: 1, packets: 1_000_000n, bytes: 1_000_000n, ageSeconds: 100 });
    table.put(1, { az: 1, hash: 2, packets: 5n, bytes: 5n, ageSeconds: 1 });
    table.put(2, { az: 1, hash: 3, packets: 90n, bytes: 90n, ageSeconds: 1 });
    sumBucketLoads(table.view, look);
    table.advance(2);
    table.put(0, { az: 1, hash: 1, packets: 1_000_400n, bytes: 1_200_000n, ageSeconds: 102 });
    // Entry 1 is another flow now, entry 2 is silent since, entry 3 is new.
    table.put(1, { az: 1, hash: 0x1002, packets: 20n, bytes: 30n, ageSeconds: 1 });
    table.put(2, { az: 1, hash: 3, packets: 90n, bytes: 90n, ageSeconds: 3, idleSeconds: 2 });
    table.put(3, { az: 4, hash: 4, packets: 8n, bytes: 80n, ageSeconds: 0 });
    const { packetsPerSecond, bytesPerSecond, flows, windowMs } = sumBucketLoads(table.view, look, true);
    assert.equal(windowMs, 2000);
    assert.deepEqual(cells(packetsPerSecond), [
      [1, 1, 200],
      [1, 2, 10],
      [4, 4, 4],
    ]);
    assert.deepEqual(cells(bytesPerSecond), [
      [1, 1, 100_000],
      [1, 2, 15],
      [4, 4, 40],
    ]);
    assert.equal(cells(flows).length, 4);
    // The look is that of the second walk now.
    table.advance(1);
    table.put(0, { az: 1, hash: 1, packets: 1_000_500n, bytes: 1_200_000n, ageSeconds: 103 });
    assert.deepEqual(cells(sumBucketLoads(table.view, look, true).packetsPerSecond), [[1, 1, 100]]);
  });

  it('go on where the lower half of jiffies overflows', () => {
    const table = new Table(1, 301);
    table.put(0, { packets: 100n, bytes: 100n, ageSeconds: 10, idleSeconds: 2 });
    assert.deepEqual(cells(sumBucketLoads(table.view).packetsPerSecond), [[0, 0, 10]]);
  });

  it('of a million flows are summed up without leaving one out', () => {
    const table = new Table(2 ** 20);
    for (let entry = 0; entry < 2 ** 20; entry++) {
      table.put(entry, { az: entry % rowCount, hash: entry, packets: 10n, bytes: 1000n, ageSeconds: 1 });
    }
    const { flows, packetsPerSecond } = sumBucketLoads(table.view, emptyLook(2 ** 20));
    const sum = (rows: readonly Iterable<number>[]): number =>
      rows.reduce((total, row) => [...row].reduce((all, value) => all + value, total), 0);
    assert.equal(sum(flows), 2 ** 20);
    assert.ok(Math.abs(sum(packetsPerSecond) / (10 * 2 ** 20) - 1) < 0.01);
  });
});
