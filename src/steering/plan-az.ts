// SPDX-License-Identifier: Apache-2.0
/** Failing and recovering whole AZs on top of the planner, as the device's policy says (failover.ts). */
import { VnicError } from '../errors.ts';
import { type FailoverPolicyName, failoverDefaults } from './failover.ts';
import { type Borrowers, lendHome, lendingOf, lendingUses, planBorrowers } from './lending.ts';
import { type PlanInput, type PlanResult, plan, planHome } from './planner.ts';
import { type AzSpec, type QueueSpec, type RowUse, rowUses, type Topology } from './queues.ts';
import type { SteeringTable } from './table.ts';

export interface SteeringState extends Topology {
  /** QueueSpec.usable is the queue's own health. A queue of a failed AZ is used by others at most: see policy. */
  queues: readonly QueueSpec[];
  /** Indices of the AZs that were failed and not recovered since, ascending. */
  failedAzs: readonly number[];
  policy: FailoverPolicyName;
  /** Where the buckets are while nothing is failed. */
  home: SteeringTable;
  current: SteeringTable;
}

export interface StateChange {
  state: SteeringState;
  plan: PlanResult;
}

export interface FailPolicy {
  /** Do it although panicShare says no. */
  force?: boolean;
  /** Least part of all queues that must stay usable, 0 to 1; default defaultPanicShare. */
  panicShare?: number;
}

export const defaultPanicShare = failoverDefaults.panicShare;

/** The queues as the planner must see them: with the policy evacuate, those of failed AZs are not usable. */
export function effectiveQueues(state: Pick<SteeringState, 'queues' | 'failedAzs' | 'policy'>): QueueSpec[] {
  const isLost = ({ az }: QueueSpec): boolean =>
    state.policy === 'evacuate' && az !== null && state.failedAzs.includes(az);
  return state.queues.map((queue) => ({ ...queue, usable: queue.usable && !isLost(queue) }));
}

/** What each row may use in a state. */
export function usesIn(state: SteeringState, lending = lendingOf(state)): RowUse[] {
  if (lending !== null) return lendingUses(state, lending);
  return rowUses({ queues: effectiveQueues(state), azs: state.azs });
}

/**
 * What the planner is to be given for a state.
 * @param formerUses of usesIn() for the state that `current` was made for
 * @param borrowers of planBorrowers() for the state's topology, where they are made already
 */
export function planInput(state: SteeringState, formerUses: readonly RowUse[], borrowers?: Borrowers): PlanInput {
  const { azs, home, current } = state;
  const lending = lendingOf(state);
  return {
    queues: effectiveQueues(state),
    azs,
    home: lending === null ? home : lendHome(home, lending, borrowers ?? planBorrowers(state)),
    current,
    uses: usesIn(state, lending),
    formerUses,
  };
}

/**
 * Plans from `current`, whatever it is, to what the rest of the state asks for. Throws invalid_config.
 * @param former the state that `current` was made for; default: one that asks for the same
 */
export function replan(state: SteeringState, former = state): StateChange {
  const result = plan(planInput(state, usesIn(former)));
  return { state: { ...state, current: result.table }, plan: result };
}

export interface InitialOptions {
  /** Default: that of failoverDefaults. */
  policy?: FailoverPolicyName;
  /** Default: planHome(). Otherwise that with moves of a rebalance applied (home-moves.ts). */
  home?: SteeringTable;
}

/** State for a new device. Throws invalid_config. */
export function initialState(
  topology: Topology,
  failedAzs: readonly number[] = [],
  options: InitialOptions = {},
): SteeringState {
  const { queues, azs } = topology;
  const { policy = failoverDefaults.policy, home = planHome(queues, azs) } = options;
  return replan({ queues, azs, failedAzs, policy, home, current: home }).state;
}

/**
 * New health of queues, weights or AZ membership. A change of weights or membership makes a new home table, unless one
 * is given.
 */
export function updateTopology(state: SteeringState, topology: Topology, newHome?: SteeringTable): StateChange {
  const shape = ({ queues, azs }: Topology): string =>
    JSON.stringify([queues.map(({ index, az }) => [index, az]), azs.map(({ index, weight }) => [index, weight])]);
  const isSame = shape(state) === shape(topology);
  const home = newHome ?? (isSame ? state.home : planHome(topology.queues, topology.azs));
  return replan({ ...state, queues: topology.queues, azs: topology.azs, home }, state);
}

/** Another policy, during an outage too. */
export function changePolicy(state: SteeringState, policy: FailoverPolicyName): StateChange {
  return replan({ ...state, policy }, state);
}

function findAz(state: SteeringState, azIndex: number): AzSpec {
  const az = state.azs.find((candidate) => candidate.index === azIndex);
  if (az === undefined) {
    throw new VnicError('not_found', `there is no AZ with index ${azIndex}`, { remedy: 'vnicctl az list' });
  }
  if (az.queues.length === 0) {
    throw new VnicError('not_found', `AZ ${az.name} has no queues`, {
      remedy: `give it queues: vnicctl az set ${az.name}`,
      details: { az: az.name },
    });
  }
  return az;
}

function countUsable(state: SteeringState): number {
  return effectiveQueues(state).filter((queue) => queue.usable).length;
}

/**
 * The state with an AZ failed, and nothing planned for it yet. Throws not_found (no such AZ, or one without queues),
 * conflict (already failed), policy_refused (too few queues would be left, and not forced). Only queues that are lost
 * count, so the policy absorb never refuses.
 */
export function markFailed(state: SteeringState, azIndex: number, policy: FailPolicy = {}): SteeringState {
  const az = findAz(state, azIndex);
  if (state.failedAzs.includes(azIndex)) {
    throw new VnicError('conflict', `AZ ${az.name} is already failed`, {
      remedy: `to use it again: vnicctl az recover ${az.name}`,
      details: { az: az.name },
    });
  }
  const failed = { ...state, failedAzs: [...state.failedAzs, azIndex].sort((a, b) => a - b) };
  const before = countUsable(state);
  const after = countUsable(failed);
  const total = state.queues.length;
  const panicShare = policy.panicShare ?? defaultPanicShare;
  if (after < before && after < panicShare * total && policy.force !== true) {
    throw new VnicError(
      'policy_refused',
      `failing AZ ${az.name} would leave ${after} of ${total} queues, less than ${panicShare * 100} %`,
      {
        remedy: 'recover another AZ first, or use --force',
        details: { az: az.name, usable: after, total, panicShare },
      },
    );
  }
  return failed;
}

/** Takes an AZ out of use. Throws as markFailed(). */
export function failAz(state: SteeringState, azIndex: number, policy: FailPolicy = {}): StateChange {
  return replan(markFailed(state, azIndex, policy), state);
}

/** Takes an AZ into use again. Throws not_found, conflict (not failed). */
export function recoverAz(state: SteeringState, azIndex: number): StateChange {
  const az = findAz(state, azIndex);
  if (!state.failedAzs.includes(azIndex)) {
    throw new VnicError('conflict', `AZ ${az.name} is not failed`, {
      remedy: 'vnicctl az list shows the state of each AZ',
      details: { az: az.name },
    });
  }
  return replan({ ...state, failedAzs: state.failedAzs.filter((index) => index !== azIndex) }, state);
}
