// SPDX-License-Identifier: Apache-2.0
/** Failing and recovering whole AZs on top of the planner, and the standby tables for losing each of them. */
import { VnicError } from '../errors.ts';
import { type PlanResult, plan, planHome } from './planner.ts';
import type { AzSpec, QueueSpec, Topology } from './queues.ts';
import type { SteeringTable } from './table.ts';

export interface SteeringState extends Topology {
  /** QueueSpec.usable is the queue's own health; a queue of a failed AZ is not used whatever it says. */
  queues: readonly QueueSpec[];
  /** Indices of the AZs that were failed and not recovered since, ascending. */
  failedAzs: readonly number[];
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

export const defaultPanicShare = 0.25;

/** The queues as the planner must see them: those of failed AZs are not usable. */
export function effectiveQueues(state: Pick<SteeringState, 'queues' | 'failedAzs'>): QueueSpec[] {
  return state.queues.map((queue) => ({
    ...queue,
    usable: queue.usable && !(queue.az !== null && state.failedAzs.includes(queue.az)),
  }));
}

function replan(state: SteeringState): StateChange {
  const result = plan({ ...state, queues: effectiveQueues(state) });
  return { state: { ...state, current: result.table }, plan: result };
}

/** State for a new device. Throws invalid_config. */
export function initialState(topology: Topology, failedAzs: readonly number[] = []): SteeringState {
  const home = planHome(topology.queues, topology.azs);
  return replan({ queues: topology.queues, azs: topology.azs, failedAzs, home, current: home }).state;
}

/** New health of queues, weights or AZ membership. A change of weights or membership makes a new home table. */
export function updateTopology(state: SteeringState, topology: Topology): StateChange {
  const shape = ({ queues, azs }: Topology): string =>
    JSON.stringify([queues.map(({ index, az }) => [index, az]), azs.map(({ index, weight }) => [index, weight])]);
  const home = shape(state) === shape(topology) ? state.home : planHome(topology.queues, topology.azs);
  return replan({ ...state, queues: topology.queues, azs: topology.azs, home });
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
 * Takes an AZ's queues out of use. Throws not_found (no such AZ, or one without queues), conflict (already failed),
 * policy_refused (too few queues would be left, and not forced).
 */
export function failAz(state: SteeringState, azIndex: number, policy: FailPolicy = {}): StateChange {
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
  return replan(failed);
}

/** Takes an AZ's queues into use again. Throws not_found, conflict (not failed). */
export function recoverAz(state: SteeringState, azIndex: number): StateChange {
  const az = findAz(state, azIndex);
  if (!state.failedAzs.includes(azIndex)) {
    throw new VnicError('conflict', `AZ ${az.name} is not failed`, {
      remedy: 'vnicctl az list shows the state of each AZ',
      details: { az: az.name },
    });
  }
  return replan({ ...state, failedAzs: state.failedAzs.filter((index) => index !== azIndex) });
}

export interface Standby {
  az: number;
  /** Absent where the policy refuses to fail the AZ without force. */
  change?: StateChange;
  refused?: VnicError;
}

/** What failing each AZ would do now: one entry for each AZ that has queues and is not failed. */
export function standbyPlans(state: SteeringState, policy: FailPolicy = {}): Standby[] {
  const candidates = state.azs.filter((az) => az.queues.length > 0 && !state.failedAzs.includes(az.index));
  return candidates.map(({ index }) => {
    try {
      return { az: index, change: failAz(state, index, policy) };
    } catch (error) {
      if (error instanceof VnicError && error.code === 'policy_refused') return { az: index, refused: error };
      throw error;
    }
  });
}
