// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { PlanSummary } from '../../src/steering/plan-summary.ts';
import { type PlanResult, plan, planHome } from '../../src/steering/planner.ts';
import { eligibleQueues, planQueues, type QueueSpec, type Topology, usableMask } from '../../src/steering/queues.ts';
import { bucketCount, countBuckets, noQueue, rowCount, type SteeringTable } from '../../src/steering/table.ts';
import {
  applyStep,
  equalWeightTopologies,
  evenTopology,
  type HealthStep,
  healthSteps,
  makeTopology,
  weightedTopologies,
} from '../support/topologies.ts';

const runs = { numRuns: 300 };
const anyTopology = fc.oneof(equalWeightTopologies, weightedTopologies);

interface Step {
  queues: readonly QueueSpec[];
  home: SteeringTable;
  before: SteeringTable;
  result: PlanResult;
}

/** Plans one step after the other, starting at home, and shows each to the check. */
function walk(topology: Topology, steps: readonly HealthStep[], check: (step: Step) => void): void {
  const home = planHome(topology.queues, topology.azs);
  let queues = topology.queues;
  let before = home;
  for (const step of steps) {
    queues = applyStep(queues, step);
    const result = plan({ queues, azs: topology.azs, home, current: before });
    check({ queues, home, before, result });
    before = result.table;
  }
}

/** Count minus share of each queue that a row uses. */
function deviations(summary: PlanSummary): number[][] {
  return summary.rows.map((row) =>
    row.queues.filter((queue) => queue.share > 0).map((queue) => queue.after - queue.share),
  );
}

/** Rounding of shares, in buckets. */
const slack = 1e-6;

describe('planner', function () {
  this.timeout(60_000);

  describe('home table', () => {
    it('gives each queue its weighted share to less than one bucket, in each row', () => {
      fc.assert(
        fc.property(weightedTopologies, ({ queues, azs }) => {
          const home = planHome(queues, azs);
          const { summary, moves } = plan({ queues, azs, home, current: home });
          assert.deepEqual(moves, []);
          for (const row of deviations(summary)) {
            for (const deviation of row) assert.ok(Math.abs(deviation) < 1 + slack);
          }
        }),
        runs,
      );
    });

    it("gives each AZ's queues together the AZ's share to less than one bucket", () => {
      fc.assert(
        fc.property(weightedTopologies, ({ queues, azs }) => {
          const home = planHome(queues, azs);
          const counts = countBuckets(home.rows[0]!);
          const weightOf = (az: number | null): number => azs.find((candidate) => candidate.index === az)?.weight ?? 1;
          const total = queues.reduce((sum, queue) => sum + weightOf(queue.az), 0);
          for (const [az, own] of Map.groupBy(queues, (queue) => queue.az)) {
            const share = (bucketCount * weightOf(az) * own.length) / total;
            const count = own.reduce((sum, queue) => sum + counts[queue.index]!, 0);
            assert.ok(Math.abs(count - share) < 1 + slack, `AZ ${az}: ${count} of ${share}`);
          }
        }),
        runs,
      );
    });

    it('deals buckets in turn: with equal shares no queue has two buckets in a row', () => {
      const { queues, azs } = evenTopology(32, 4);
      for (const row of planHome(queues, azs).rows) {
        for (let bucket = 1; bucket < bucketCount; bucket++) assert.notEqual(row[bucket], row[bucket - 1]);
      }
    });

    it('spreads unequal shares: every 64 neighbouring buckets hold each queue as its weight says, within two', () => {
      const { queues, azs } = makeTopology([1, 1, 2, 2, 3, 3], [1, 2, 5]);
      const row = planHome(queues, azs).rows[0]!;
      for (let start = 0; start + 64 <= bucketCount; start++) {
        const counts = countBuckets(row.subarray(start, start + 64));
        [1, 1, 2, 2, 5, 5].forEach((weight, queue) => {
          assert.ok(Math.abs(counts[queue]! - (64 * weight) / 16) <= 2, `queue ${queue} from bucket ${start}`);
        });
      }
    });

    it("keeps an AZ's row on the AZ's queues, and gives an AZ without queues all of them", () => {
      const { queues, azs } = makeTopology([1, 1, 2, 0], [1, 1, 1]);
      const rows = planHome(queues, azs).rows.map((row) => [...new Set(row)].sort((a, b) => a - b));
      assert.deepEqual(rows.slice(0, 4), [[0, 1, 2, 3], [0, 1], [2], [0, 1, 2, 3]]);
    });
  });

  describe('when queues are lost', () => {
    const lossAfterHistory = (topology: Topology, history: HealthStep[], lose: bigint): void => {
      const loss: HealthStep = { kind: 'lose', lose, gain: 0n };
      let last: Step | undefined;
      walk(topology, [...history, loss], (step) => {
        last = step;
      });
      const { queues, before, result } = last!;
      const usable = new Set(queues.filter((queue) => queue.usable).map((queue) => queue.index));
      let onLost = 0;
      before.rows.forEach((old, row) => {
        const next = result.table.rows[row]!;
        old.forEach((from, bucket) => {
          const lost = from !== noQueue && !usable.has(from);
          if (lost) onLost++;
          if ((from !== next[bucket]) !== lost) assert.fail(`row ${row} bucket ${bucket}: ${from} -> ${next[bucket]}`);
        });
      });
      const { moved, forced, planned, collateral } = result.summary;
      assert.deepEqual(
        { moved, forced, planned, collateral },
        { moved: onLost, forced: onLost, planned: 0, collateral: 0 },
      );
      assert.ok(result.moves.every((move) => move.kind === 'forced'));
    };

    it('exactly the buckets on lost queues move, after any history', () => {
      const anyLoss = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
      fc.assert(fc.property(anyTopology, healthSteps, anyLoss, lossAfterHistory), runs);
    });
  });

  describe('balance', () => {
    it('with equal weights each queue is within one bucket of its share, after any history', () => {
      fc.assert(
        fc.property(equalWeightTopologies, healthSteps, (topology, steps) => {
          walk(topology, steps, ({ result }) => {
            for (const row of deviations(result.summary)) {
              for (const deviation of row) assert.ok(Math.abs(deviation) < 1 + slack, `${deviation}`);
            }
          });
        }),
        runs,
      );
    });

    it('with any weights no queue is ever a bucket above its share, and all together lack less than one each', () => {
      fc.assert(
        fc.property(weightedTopologies, healthSteps, (topology, steps) => {
          walk(topology, steps, ({ result }) => {
            for (const row of deviations(result.summary)) {
              for (const deviation of row) assert.ok(deviation < 1 + slack, `${deviation}`);
              const lacking = row.reduce((sum, deviation) => sum + Math.max(0, -deviation), 0);
              assert.ok(lacking < Math.max(row.length, 1), `${lacking}`);
            }
          });
        }),
        runs,
      );
    });

    it('zero collateral comes first: losing queues that had no bucket moves none, although a heavy queue lacks some', () => {
      // 60 queues with half a bucket each: 30 have one, 30 have none. Losing those 30 raises the share of the other.
      const topology = makeTopology([1, ...Array.from({ length: 60 }, () => 2)], [8132, 1]);
      const home = planHome(topology.queues, topology.azs);
      const counts = countBuckets(home.rows[0]!);
      const queues = topology.queues.map((queue) => ({ ...queue, usable: counts[queue.index]! > 0 }));
      assert.equal(queues.filter((queue) => queue.usable).length, 31);
      const { summary } = plan({ queues, azs: topology.azs, home, current: home });
      const row = summary.rows[0]!.queues;
      assert.ok(row.every((queue) => queue.before === queue.after));
      const lacking = row[0]!.share - row[0]!.after;
      assert.ok(lacking > 1 && lacking < 31, `${lacking}`);
    });
  });

  describe('when queues come back', () => {
    const gainAll: HealthStep = { kind: 'gain-all', lose: 0n, gain: 0n };

    it('each bucket whose home is usable is at home at once, and recovery of everything restores the home table', () => {
      fc.assert(
        fc.property(anyTopology, healthSteps, (topology, steps) => {
          let last: Step | undefined;
          walk(topology, [...steps, gainAll], (step) => {
            last = step;
            const { queues, home, result } = step;
            for (let row = 0; row < rowCount; row++) {
              const eligible = new Set(eligibleQueues(queues, row));
              const next = result.table.rows[row]!;
              home.rows[row]!.forEach((queue, bucket) => {
                if (next[bucket] !== queue && eligible.has(queue)) assert.fail(`row ${row} bucket ${bucket} is away`);
              });
            }
          });
          assert.deepEqual(last!.result.table, last!.home);
          assert.equal(last!.result.summary.forced, 0);
        }),
        runs,
      );
    });

    it('returning queues take only what goes home and what a queue has too many: none ends with fewer than a taker', () => {
      fc.assert(
        fc.property(equalWeightTopologies, healthSteps, (topology, steps) => {
          walk(topology, steps, ({ queues, home, result }) => {
            for (const { row, queues: counts } of result.summary.rows) {
              const eligible = new Set(eligibleQueues(queues, row));
              const evictions = result.moves.filter(
                (move) => move.row === row && eligible.has(move.from) && home.rows[row]![move.bucket] !== move.to,
              );
              const countOf = new Map(counts.map(({ queue, after }) => [queue, after]));
              const least = Math.min(...evictions.map(({ from }) => countOf.get(from)!));
              for (const { to } of evictions)
                assert.ok(countOf.get(to)! <= least, `row ${row}: queue ${to} took too many`);
            }
          });
        }),
        { numRuns: 100 },
      );
    });

    it('recovery continues where a failure interrupted it, without touching others', () => {
      const { queues, azs } = evenTopology(12, 3);
      const home = planHome(queues, azs);
      const without = (...lost: number[]): QueueSpec[] =>
        queues.map((queue) => ({ ...queue, usable: !lost.includes(queue.az ?? 0) }));
      const failed = plan({ queues: without(2), azs, home, current: home }).table;
      const recovery = plan({ queues, azs, home, current: failed });
      // Half of the moves were made when AZ 1 is lost.
      const rows = failed.rows.map((row) => row.slice());
      for (const move of recovery.moves.filter((_, i) => i % 2 === 0)) rows[move.row]![move.bucket] = move.to;
      const halfway = { rows, usableQueues: home.usableQueues };
      const result = plan({ queues: without(1), azs, home, current: halfway });
      for (const move of result.moves) {
        const lost = queues[move.from]!.az === 1;
        assert.equal(move.kind, lost ? 'forced' : 'planned');
        if (!lost && move.row !== 1) assert.ok(queues[home.rows[move.row]![move.bucket]!]!.az !== 3);
      }
      assert.equal(result.summary.collateral, 0);
      const row = result.summary.rows[0]!;
      for (const queue of row.queues) assert.ok(queue.share === 0 || Math.abs(queue.after - queue.share) <= 1);
    });
  });

  describe('always', () => {
    it("no bucket is on an unusable queue or outside its row's queues; rows are empty only without any queue", () => {
      fc.assert(
        fc.property(anyTopology, healthSteps, (topology, steps) => {
          walk(topology, steps, ({ queues, result }) => {
            assert.equal(result.table.usableQueues, usableMask(queues));
            result.table.rows.forEach((next, row) => {
              const allowed = new Set(eligibleQueues(queues, row));
              if (allowed.size === 0) allowed.add(noQueue);
              for (const queue of new Set(next)) assert.ok(allowed.has(queue), `row ${row} uses queue ${queue}`);
            });
          });
        }),
        runs,
      );
    });

    it('moves and summary are exactly the difference of the tables', () => {
      fc.assert(
        fc.property(anyTopology, healthSteps, (topology, steps) => {
          walk(topology, steps, ({ before, result }) => {
            const rows = before.rows.map((row) => row.slice());
            for (const { row, bucket, from, to } of result.moves) {
              if (rows[row]![bucket] !== from || from === to) assert.fail(`row ${row} bucket ${bucket}`);
              rows[row]![bucket] = to;
            }
            assert.ok(
              rows.every((row, i) => Buffer.from(row.buffer).equals(Buffer.from(result.table.rows[i]!.buffer))),
            );
            const { summary } = result;
            assert.equal(summary.moved, result.moves.length);
            assert.equal(summary.planned, result.moves.filter((move) => move.kind === 'planned').length);
            assert.equal(summary.forced + summary.planned, summary.moved);
            assert.equal(summary.collateral, 0);
          });
        }),
        { numRuns: 100 },
      );
    });

    it('the same input gives the same output, and the input is left as it was', () => {
      fc.assert(
        fc.property(anyTopology, healthSteps, (topology, steps) => {
          const seen: string[][] = [[], []];
          const original = structuredClone(topology);
          for (const list of seen) {
            walk(topology, steps, ({ result }) => list.push(JSON.stringify([result.moves, result.summary])));
          }
          assert.deepEqual(seen[0], seen[1]);
          assert.deepEqual(topology, original);
        }),
        { numRuns: 30 },
      );
    });

    it('the order in which queues and AZs are listed does not matter', () => {
      fc.assert(
        fc.property(anyTopology, healthSteps, (topology, steps) => {
          const tables: SteeringTable[][] = [[], []];
          const reversed = { queues: topology.queues.toReversed(), azs: topology.azs.toReversed() };
          walk(topology, steps, ({ home, result }) => tables[0]!.push(home, result.table));
          walk(reversed, steps, ({ home, result }) => tables[1]!.push(home, result.table));
          assert.deepEqual(tables[0], tables[1]);
        }),
        { numRuns: 30 },
      );
    });
  });

  it('counts a move of a healthy bucket as collateral when nothing came back', () => {
    const { queues, azs } = evenTopology(4, 2);
    const home = planHome(queues, azs);
    const lost = queues.map((queue) => ({ ...queue, usable: queue.index !== 3 }));
    // Bucket 0's home is lost, and it stands on a queue that its row may not use.
    const rows = home.rows.map((row) => row.slice());
    const bucket = rows[2]!.indexOf(3);
    rows[2]![bucket] = 0;
    const result = plan({ queues: lost, azs, home, current: { rows, usableQueues: home.usableQueues } });
    assert.equal(result.summary.collateral, 1);
    assert.deepEqual(
      result.moves.filter((move) => move.kind === 'planned'),
      [{ row: 2, bucket, from: 0, to: 2, kind: 'planned' }],
    );
  });

  describe('topology', () => {
    const good = makeTopology([1, 1, 2, 0], [1, 2.5]);
    const [first, second] = good.azs;
    const bad: [string, Topology, RegExp][] = [
      ['no queue', { queues: [], azs: [] }, /no queue/],
      ['a queue given twice', { ...good, queues: [...good.queues, good.queues[0]!] }, /queue 0 is given twice/],
      ['a queue out of range', { queues: [{ ...good.queues[0]!, index: 64, az: null }], azs: [] }, /out of range/],
      ['a weight of 0', { ...good, azs: [first!, { ...second!, weight: 0 }] }, /az-b has weight 0/],
      ['a weight that is no number', { ...good, azs: [first!, { ...second!, weight: Number.NaN }] }, /weight NaN/],
      ['an AZ index out of range', { ...good, azs: [{ ...first!, index: 9 }, second!] }, /index 9/],
      ['two AZs with one index', { ...good, azs: [first!, { ...second!, index: 1 }] }, /AZ index 1 is given twice/],
      ['an AZ with an unknown queue', { ...good, azs: [first!, { ...second!, queues: [2, 7] }] }, /queue 7/],
      ["an AZ with another AZ's queue", { ...good, azs: [first!, { ...second!, queues: [2, 1] }] }, /another AZ/],
      ['a queue in an AZ that does not name it', { ...good, azs: [first!] }, /queue 2 is in AZ 2/],
    ];
    for (const [name, topology, message] of bad) {
      it(`refuses ${name}`, () => {
        assert.throws(() => planHome(topology.queues, topology.azs), { code: 'invalid_config', message });
      });
    }

    it('deals CPUs of the chosen NUMA node to queues in turn', () => {
      const cpus = [0, 1, 2, 3].map((cpu) => ({ cpu, numaNode: cpu >> 1 }));
      const input = { queueCount: 4, azs: [{ index: 1, name: 'az-a', weight: 1, queues: [2, 3] }], cpus };
      const all = planQueues({ ...input, numaNode: -1 });
      assert.deepEqual(
        all.map(({ cpu, numaNode, az }) => [cpu, numaNode, az]),
        [
          [0, 0, null],
          [1, 0, null],
          [2, 1, 1],
          [3, 1, 1],
        ],
      );
      const one = planQueues({ ...input, numaNode: 1 });
      assert.deepEqual(
        one.map(({ cpu }) => cpu),
        [2, 3, 2, 3],
      );
      assert.throws(() => planQueues({ ...input, numaNode: 5 }), { code: 'invalid_config', message: /NUMA node 5/ });
    });
  });
});
