// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { VnicLatency, VnicLimits } from '../../src/maps/generated/abi.ts';
import { BpfMap, MappedArray } from '../../src/maps/index.ts';
import { latencyBucketEdgeNs, readLatency } from '../../src/telemetry/counters.ts';
import { compileTestProgram } from '../support/compile.ts';
import { PacketRunner } from '../support/dataplane.ts';
import { randomSource } from '../support/random.ts';

/** Above it, everything is in the last bucket: more than a minute. */
const largestNs = latencyBucketEdgeNs(VnicLimits.latencyBuckets - 1);

describe('latency histogram', () => {
  const opened = new DisposableStack();
  let latency: MappedArray<VnicLatency>;
  let runner: PacketRunner;

  before(() => {
    const native = loadNative();
    const object = opened.use(BpfObject.load(native, compileTestProgram('latency'), { programs: ['record_latency'] }));
    const map = opened.use(BpfMap.fromFd(native, object.mapFd('vnic_latency')));
    latency = opened.use(new MappedArray(native, map, VnicLatency));
    const program = object.programFd('record_latency');
    opened.defer(() => program.close());
    runner = new PacketRunner(native, program);
  });
  after(() => opened.dispose());
  beforeEach(() => latency.write(0, {}));

  const frame = new Uint8Array(60);
  const record = (ns: bigint): void => {
    new DataView(frame.buffer).setBigUint64(0, ns, true);
    runner.run(frame);
  };

  /** The bucket that the program chose. */
  function bucketOf(ns: bigint): number {
    latency.write(0, {});
    record(ns);
    const { count, sumNs, bucket } = latency.read(0);
    assert.deepEqual([count, sumNs], [1n, ns]);
    const used = [...bucket.entries()].filter(([, value]) => value !== 0n);
    assert.equal(used.length, 1);
    assert.equal(used[0]![1], 1n);
    return used[0]![0];
  }

  it('puts every latency into the bucket whose edges hold it, at most 1/16 wide', () => {
    const random = randomSource(11);
    const values = Array.from({ length: 300 }, (_, index) => BigInt(index));
    for (let bit = 4n; 1n << bit <= BigInt(largestNs); bit++) {
      const octave = 1n << bit;
      const near = [octave - 1n, octave, octave + 1n, octave + octave / 16n - 1n, octave + octave / 16n];
      const inside = Array.from({ length: 20 }, () => octave + (BigInt(random()) * octave) / (1n << 32n));
      values.push(...[...near, ...inside].filter((value) => value <= BigInt(largestNs)));
    }
    for (const ns of values) {
      const bucket = bucketOf(ns);
      const upper = latencyBucketEdgeNs(bucket);
      const lower = bucket === 0 ? 0 : latencyBucketEdgeNs(bucket - 1) + 1;
      assert.ok(Number(ns) >= lower && Number(ns) <= upper, `${ns} ns in bucket ${bucket}: ${lower} to ${upper}`);
      assert.ok(upper - Number(ns) <= Number(ns) / 16, `${ns} ns is read as ${upper}`);
    }
  });

  it('keeps what is longer than the last bucket in the last bucket', () => {
    assert.ok(largestNs > 10e9, `${largestNs} ns`);
    for (const ns of [BigInt(largestNs) + 1n, 1n << 40n, 1n << 63n, 2n ** 64n - 1n]) {
      assert.equal(bucketOf(ns), VnicLimits.latencyBuckets - 1, `${ns} ns`);
    }
  });

  it('gives quantiles that are at most 1/16 too high, and never too low', () => {
    const random = randomSource(12);
    const values: bigint[] = [];
    for (let count = 0; count < 5000; count++) {
      // From 100 ns to 100 ms, as many in each decade.
      const ns = BigInt(Math.floor(100 * 10 ** ((6 * random()) / 2 ** 32)));
      values.push(ns);
      record(ns);
    }
    values.sort((a, b) => Number(a - b));
    const summary = readLatency({ latency });
    assert.equal(summary.count, 5000n);
    assert.equal(summary.meanNs, Number(values.reduce((sum, value) => sum + value, 0n)) / 5000);
    for (const [share, got] of [
      [0.5, summary.p50Ns],
      [0.9, summary.p90Ns],
      [0.99, summary.p99Ns],
      [0.999, summary.p999Ns],
    ] as const) {
      const exact = Number(values[Math.ceil(5000 * share) - 1]!);
      assert.ok(got !== null && got >= exact && got <= exact * (1 + 1 / 16), `${share}: ${got}, exactly ${exact}`);
    }
  });
});
