// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { bucketOf, chooseQueue, type FlowHashKey, flowHash, fmix32, murmurRound } from '../../src/steering/hash.ts';
import { plan, planHome } from '../../src/steering/planner.ts';
import type { QueueSpec } from '../../src/steering/queues.ts';
import * as table from '../../src/steering/table.ts';
import { randomSource } from '../support/random.ts';
import { skip } from '../support/skip.ts';

function randomFlow(random: () => number): FlowHashKey {
  const bytes = Uint8Array.from({ length: 32 }, () => random() >>> 24);
  if (random() & 1) {
    for (const at of [0, 16]) bytes.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff], at);
  }
  const [sport, dport] = [random() >>> 16, random() >>> 16];
  return { src: bytes.slice(0, 16), dst: bytes.slice(16), sport, dport, proto: [1, 6, 17, 132][random() & 3]! };
}

function v4(a: number, b: number, c: number, d: number): Uint8Array {
  return Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d);
}

function queuesWithoutAz(count: number, unusable: readonly number[] = []): QueueSpec[] {
  return Array.from({ length: count }, (_, index) => ({
    index,
    az: null,
    cpu: index,
    numaNode: 0,
    usable: !unusable.includes(index),
  }));
}

/** Sum of (observed - expected)^2 / expected. */
function chiSquare(counts: Iterable<number>, expected: number): number {
  let sum = 0;
  for (const count of counts) sum += (count - expected) ** 2 / expected;
  return sum;
}

/** Mean of the distribution plus six standard deviations. */
function chiSquareBound(cells: number): number {
  return cells - 1 + 6 * Math.sqrt(2 * (cells - 1));
}

describe('flow hash', () => {
  it('rounds and finaliser give the published MurmurHash3_x86_32 values of whole-word strings', () => {
    const murmur3 = (text: string, seed: number): number => {
      const bytes = Buffer.from(text);
      let h = seed;
      for (let i = 0; i < bytes.length; i += 4) h = murmurRound(h, bytes.readInt32LE(i));
      return fmix32((h ^ bytes.length) >>> 0);
    };
    assert.equal(murmur3('', 0), 0);
    assert.equal(murmur3('', 1), 0x514e28b7);
    assert.equal(murmur3('test', 0), 0xba6bd213);
    assert.equal(murmur3('test', 0x9747b28c), 0x704b81dc);
  });

  it('both directions of 100,000 random connections meet the same bucket', () => {
    const random = randomSource(0x5eed);
    for (let i = 0; i < 100_000; i++) {
      const flow = randomFlow(random);
      const seed = random();
      const back = { src: flow.dst, dst: flow.src, sport: flow.dport, dport: flow.sport, proto: flow.proto };
      const hash = flowHash(flow, seed);
      if (hash !== flowHash(back, seed)) assert.fail(`flow ${i} has two hashes`);
    }
  });

  it('ports belong to their address: swapping only the ports is another flow', () => {
    const flow = { src: v4(10, 0, 0, 1), dst: v4(10, 0, 0, 2), sport: 1000, dport: 2000, proto: 6 };
    assert.notEqual(flowHash(flow, 1), flowHash({ ...flow, sport: 2000, dport: 1000 }, 1));
  });

  it('each field and the seed change the hash', () => {
    const flow = { src: v4(10, 0, 0, 1), dst: v4(10, 0, 0, 2), sport: 1000, dport: 2000, proto: 6 };
    const others = [
      { ...flow, src: v4(10, 0, 0, 3) },
      { ...flow, dst: v4(10, 0, 0, 3) },
      { ...flow, sport: 1001 },
      { ...flow, dport: 2001 },
      { ...flow, proto: 17 },
    ].map((other) => flowHash(other, 1));
    assert.equal(new Set([flowHash(flow, 1), flowHash(flow, 2), ...others]).size, 7);
  });

  it('is a u32 and equals an independent C program on 20,000 random flows', function () {
    this.timeout(60_000);
    const directory = mkdtempSync(join(tmpdir(), 'vnic-hash-'));
    try {
      const source = join(import.meta.dirname, '../support/flow-hash-reference.c');
      const program = join(directory, 'reference');
      const compiled = spawnSync('gcc', ['-O1', '-Wall', '-Werror', '-o', program, source], { encoding: 'utf8' });
      if (compiled.error !== undefined) skip(this, `gcc cannot be run (${compiled.error.message})`);
      assert.equal(compiled.status, 0, compiled.stderr);
      const random = randomSource(77);
      const flows = Array.from({ length: 20_000 }, () => ({ ...randomFlow(random), seed: random() }));
      const records = Buffer.alloc(42 * flows.length);
      flows.forEach((flow, i) => {
        const at = 42 * i;
        records.writeUInt32LE(flow.seed, at);
        records.writeUInt16LE(flow.sport, at + 4);
        records.writeUInt16LE(flow.dport, at + 6);
        records.writeUInt8(flow.proto, at + 8);
        records.set(flow.src, at + 10);
        records.set(flow.dst, at + 26);
      });
      const run = spawnSync(program, { input: records, encoding: 'utf8', maxBuffer: 1 << 24 });
      assert.equal(run.status, 0, run.stderr);
      const expected = run.stdout.trimEnd().split('\n').map(Number);
      assert.deepEqual(
        flows.map((flow) => flowHash(flow, flow.seed)),
        expected,
      );
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  it('keeps its values: a stored table meets the same flows after an upgrade', () => {
    const tcp = { src: v4(10, 1, 0, 1), dst: v4(10, 2, 0, 9), sport: 40000, dport: 443, proto: 6 };
    const src6 = Uint8Array.of(0xfd, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);
    const dst6 = Uint8Array.of(0xfd, 0, 0, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2);
    assert.equal(flowHash(tcp, 0), 0xf35171a4);
    assert.equal(flowHash({ src: src6, dst: dst6, sport: 0, dport: 0, proto: 58 }, 0x1234abcd), 0x18c5ab64);
  });

  const patterns: [string, (i: number) => FlowHashKey][] = [
    [
      'random flows',
      (() => {
        const random = randomSource(4242);
        return () => randomFlow(random);
      })(),
    ],
    [
      'one client that counts its source port up',
      (i) => ({
        src: v4(10, 1, 0, 1),
        dst: v4(10, 2, 0, 1),
        sport: 1024 + (i % 64000),
        dport: 80 + (i >> 16),
        proto: 6,
      }),
    ],
    [
      'consecutive client addresses with the same ports',
      (i) => ({ src: v4(10, 1, i >> 8, i & 255), dst: v4(10, 2, 0, 1), sport: 5000, dport: 5000, proto: 17 }),
    ],
  ];
  for (const [name, flowOf] of patterns) {
    it(`spreads ${name} evenly over 32 queues and over the buckets`, () => {
      const flows = 60_000;
      const perQueue = new Uint32Array(32);
      const perBucket = new Uint32Array(table.bucketCount);
      const row = planHome(queuesWithoutAz(32), []).rows[0]!;
      for (let i = 0; i < flows; i++) {
        const bucket = bucketOf(flowHash(flowOf(i), 0xc0ffee));
        perBucket[bucket]!++;
        perQueue[row[bucket]!]!++;
      }
      const overQueues = chiSquare(perQueue, flows / 32);
      assert.ok(overQueues < chiSquareBound(32), `queues: chi-square ${overQueues}`);
      const overBuckets = chiSquare(perBucket, flows / table.bucketCount);
      assert.ok(overBuckets < chiSquareBound(table.bucketCount), `buckets: chi-square ${overBuckets}`);
    });
  }
});

describe('choice of a queue', () => {
  const queues = queuesWithoutAz(8);
  const home = planHome(queues, []);

  it("follows the table's row of the flow's AZ, and no queue stays no queue", () => {
    const rows = home.rows.map((row, index) => row.map((queue) => (queue + index) % 8));
    const choice = { hash: 0x12345678, bucket: 0x678, rows, usableQueues: home.usableQueues };
    assert.equal(chooseQueue({ ...choice, az: 0 }), rows[0]![0x678]);
    assert.equal(chooseQueue({ ...choice, az: 3 }), rows[3]![0x678]);
    rows[2]![0x678] = table.noQueue;
    assert.equal(chooseQueue({ ...choice, az: 2 }), table.noQueue);
  });

  const anyChoice = fc.record({
    hash: fc.nat({ max: 0xffffffff }),
    ruleQueues: fc.bigInt({ min: 1n, max: (1n << 64n) - 1n }),
    usableQueues: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  });

  it("a rule's flow uses a usable queue of the rule while there is one, else the table's", () => {
    fc.assert(
      fc.property(anyChoice, ({ hash, ruleQueues, usableQueues }) => {
        const bucket = bucketOf(hash);
        const queue = chooseQueue({ hash, bucket, az: 0, rows: home.rows, usableQueues, ruleQueues });
        if ((ruleQueues & usableQueues) === 0n) assert.equal(queue, home.rows[0]![bucket]);
        else assert.ok(((ruleQueues & usableQueues) >> BigInt(queue)) & 1n);
      }),
      { numRuns: 500 },
    );
  });

  it("losing a queue moves only the rule's flows that were on it", () => {
    fc.assert(
      fc.property(anyChoice, fc.nat({ max: 63 }), ({ hash, ruleQueues, usableQueues }, lost) => {
        const choice = { hash, bucket: bucketOf(hash), az: 0, rows: home.rows, ruleQueues };
        const all = chooseQueue({ ...choice, usableQueues: usableQueues | ruleQueues });
        const some = chooseQueue({ ...choice, usableQueues: (usableQueues | ruleQueues) & ~(1n << BigInt(lost)) });
        if (all !== lost) assert.equal(some, all);
      }),
      { numRuns: 500 },
    );
  });

  it("spreads one bucket's flows over the rule's queues by the hash bits above the bucket's", () => {
    const ruleQueues = table.queueMask([1, 5, 6]);
    const choose = (usableQueues: bigint): number[] =>
      [0, 1, 2, 3, 4, 5].map((high) => {
        const hash = ((high << 12) | 77) >>> 0;
        return chooseQueue({ hash, bucket: bucketOf(hash), az: 0, rows: home.rows, usableQueues, ruleQueues });
      });
    assert.deepEqual(choose(home.usableQueues), [1, 5, 6, 1, 5, 6]);
    // Without queue 5: its flows, the second and the fifth, go to 6 and 1; the others stay.
    assert.deepEqual(choose(table.queueMask([1, 6])), [1, 6, 6, 1, 1, 6]);
  });

  it('passes packets to the stack when no queue is usable', () => {
    const none = queuesWithoutAz(8, [0, 1, 2, 3, 4, 5, 6, 7]);
    const { table: empty } = plan({ queues: none, azs: [], home, current: home });
    const choice = { hash: 5, bucket: 5, az: 0, rows: empty.rows, usableQueues: empty.usableQueues };
    assert.equal(chooseQueue({ ...choice, ruleQueues: 0b11n }), table.noQueue);
  });
});

describe('steering table constants', () => {
  it('are those of the ABI header', () => {
    const header = readFileSync(join(import.meta.dirname, '../../bpf/vnic_abi.h'), 'utf8');
    const constant = (name: string): number => {
      const value = new RegExp(`\\b${name} = (0x[0-9a-f]+|\\d+)`).exec(header)?.[1];
      assert.ok(value !== undefined, `${name} is not in the header`);
      return Number(value);
    };
    assert.equal(table.bucketCount, constant('VNIC_BUCKETS'));
    assert.equal(table.rowCount, constant('VNIC_TABLE_ROWS'));
    assert.equal(table.maxQueues, constant('VNIC_MAX_QUEUES'));
    assert.equal(table.maxAzs, constant('VNIC_MAX_AZS'));
    assert.equal(table.noQueue, constant('VNIC_NO_QUEUE'));
  });
});
