// SPDX-License-Identifier: Apache-2.0
/**
 * Tables for AZs that may be lost next, so that a loss is only a switch. Pure, and the same state gives the same tables.
 */
import { VnicError } from '../errors.ts';
import { planBorrowers } from './lending.ts';
import { effectiveQueues, type FailPolicy, markFailed, planInput, type SteeringState, usesIn } from './plan-az.ts';
import { planTable } from './planner.ts';
import { noQueue, type SteeringTable } from './table.ts';

export interface Standby {
  /** Bit n - 1: AZ n. All that are lost then, those that are failed already included. */
  azs: number;
  /** A row that does not change is the row it was made from, not a copy of it. */
  table: SteeringTable;
  /** Whether flows may leave their queues in order: no queue is lost (absorb). */
  settle: boolean;
}

export interface StandbyTables {
  /** Of the single AZs in their order, then of the pairs. */
  standbys: Standby[];
  /** What the panic threshold does not let happen. */
  refused: { azs: number; error: VnicError }[];
}

function bitsOf(azs: readonly number[]): number {
  return azs.reduce((bits, az) => bits | (1 << (az - 1)), 0);
}

/** The state with the AZ failed, or why the panic threshold refuses it. */
function tryFail(state: SteeringState, az: number, policy: FailPolicy): SteeringState | VnicError {
  try {
    return markFailed(state, az, policy);
  } catch (error) {
    if (error instanceof VnicError && error.code === 'policy_refused') return error;
    throw error;
  }
}

/**
 * The current table with each bucket that a loss of one of two AZs moves where that loss alone sends it, unless the
 * other loss takes that queue too.
 */
function mergeLosses(state: SteeringState, one: SteeringState, other: SteeringState, both: SteeringState) {
  const usable = new Uint8Array(noQueue + 1);
  for (const queue of effectiveQueues(both)) usable[queue.index] = queue.usable ? 1 : 0;
  const rows = state.current.rows.map((row, r) => {
    const [first, second] = [one.current.rows[r]!, other.current.rows[r]!];
    if (first === row && second === row) return row;
    return row.map((queue, bucket) => {
      if (usable[queue] === 1) return queue;
      const sent = first[bucket] === queue ? second[bucket]! : first[bucket]!;
      return usable[sent] === 1 ? sent : queue;
    });
  });
  return { rows, usableQueues: state.current.usableQueues };
}

/**
 * A table for the loss of each further AZ that has queues, and with `pairs` of each further two.
 *
 * evacuate: failing two AZs one after the other gives tables that differ by the order. A pair's table fits both: it has
 * no collateral whichever is lost first, and none when both are lost at once, for a bucket that the first loss moves
 * stays there unless the second takes that queue. From either single standby it moves as few buckets as a plan would.
 * Its queue shares are rounded up to three times: with AZs of equal size and weight they are within one bucket all the
 * same, else a queue can be up to three above its share.
 * absorb: the table is a function of the set of failed AZs, so the order does not matter.
 */
export function standbyTables(state: SteeringState, policy: FailPolicy, { pairs }: { pairs: boolean }): StandbyTables {
  const standbys: Standby[] = [];
  const refused: StandbyTables['refused'] = [];
  const settle = state.policy === 'absorb';
  const borrowers = settle ? planBorrowers(state) : [];
  const formerUses = usesIn(state);
  const plan = (failed: SteeringState, current: SteeringTable): SteeringState => {
    const table = planTable(planInput({ ...failed, current }, formerUses, borrowers));
    standbys.push({ azs: bitsOf(failed.failedAzs), table, settle });
    return { ...failed, current: table };
  };
  const further = state.azs.filter((az) => az.queues.length > 0 && !state.failedAzs.includes(az.index));
  const singles = further
    .map(({ index }) => index)
    .sort((a, b) => a - b)
    .map((az) => {
      const failed = tryFail(state, az, policy);
      if (!(failed instanceof VnicError)) return { az, failed: plan(failed, state.current) };
      refused.push({ azs: bitsOf([...state.failedAzs, az]), error: failed });
      return { az, failed };
    });
  for (const [i, one] of pairs ? singles.entries() : []) {
    for (const other of singles.slice(i + 1)) {
      const azs = bitsOf([...state.failedAzs, one.az, other.az]);
      // Refused alone, it is refused with another as well: even fewer queues would be left.
      if (one.failed instanceof VnicError) refused.push({ azs, error: one.failed });
      else if (other.failed instanceof VnicError) refused.push({ azs, error: other.failed });
      else {
        const both = tryFail(one.failed, other.az, policy);
        if (both instanceof VnicError) refused.push({ azs, error: both });
        else plan(both, settle ? state.current : mergeLosses(state, one.failed, other.failed, both));
      }
    }
  }
  return { standbys, refused };
}
