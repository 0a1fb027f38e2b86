// SPDX-License-Identifier: Apache-2.0
/** A policy that is tried on a share of the nodes first: watched, then put into force for all or taken back. */
import { setTimeout as sleep } from 'node:timers/promises';
import { VnicError } from '../errors.ts';
import { canaryCount, chooseCanaries, judge } from './core/canary.ts';
import type { Policy } from './core/policy.ts';
import type { SpecValue } from './core/values.ts';
import type { FleetOperator } from './operator.ts';

export interface RolloutOptions {
  /** `10%` or a number of nodes. */
  share: string;
  /** How long the trial has to go well, once the policy is in effect on all of its nodes. */
  watchSeconds: number;
  /** Of the share of dropped packets, 0 to 1. */
  maxDropRise: number;
  /** For the policy to be in effect on all nodes of the trial. */
  applySeconds: number;
  onTrial: (nodes: readonly string[], revision: number) => void;
  /** Aborted: the trial is taken back. */
  signal: AbortSignal;
}

/** The trial ends so soon after the process that makes it. */
const LEASE_SECONDS = 10;
const LOOK_MS = 500;

/** Throws `policy_refused`, with the reasons, where the trial went badly: the nodes return to the policy before it. */
export async function rollOut(operator: FleetOperator, policy: Policy, options: RolloutOptions): Promise<SpecValue> {
  const { nodes } = await operator.overview();
  if (nodes.length === 0) {
    throw new VnicError('not_found', 'No node reports, so there is none to try it on.', {
      remedy: 'Look at vnicctl fleet status, or apply without --canary.',
    });
  }
  const names = nodes.map(({ node }) => node);
  const canaries = chooseCanaries(names, canaryCount(options.share, names.length));
  const trial = await operator.begin(policy, canaries, LEASE_SECONDS);
  try {
    options.onTrial(canaries, trial.candidate.revision);
    await watchTrial(operator, trial, options);
  } catch (error) {
    await trial.abandon();
    throw error;
  }
  return await trial.promote();
}

async function watchTrial(
  operator: FleetOperator,
  trial: Awaited<ReturnType<FleetOperator['begin']>>,
  { watchSeconds, applySeconds, maxDropRise, signal }: RolloutOptions,
): Promise<void> {
  const { revision, nodes } = trial.candidate;
  const start = performance.now();
  let appliedAt: number | null = null;
  for (;;) {
    await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) throw refused(revision, ['it was interrupted']);
    const [isKept, { nodes: statuses }] = await Promise.all([trial.keep(), operator.overview()]);
    if (!isKept) throw refused(revision, ['etcd was away for longer than a trial lasts without being watched']);
    const { applied, against } = judge({ revision, nodes, maxDropRise }, statuses);
    if (against.length > 0) throw refused(revision, against);
    const now = performance.now();
    if (applied.length === nodes.length) appliedAt ??= now;
    else if (now - start > applySeconds * 1000) {
      const late = nodes.filter((node) => !applied.includes(node));
      throw refused(revision, [`it was not in effect on ${late.join(', ')} within ${applySeconds} s`]);
    }
    if (appliedAt !== null && now - appliedAt >= watchSeconds * 1000) return;
  }
}

function refused(revision: number, reasons: readonly string[]): VnicError {
  return new VnicError('policy_refused', `Revision ${revision} was tried and taken back: ${reasons.join('; ')}.`, {
    remedy: 'Correct the policy and apply it again; nodes have the one before it.',
    details: { reasons },
  });
}
