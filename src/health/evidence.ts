// SPDX-License-Identifier: Apache-2.0
/** What a decision rests on: data for events, and a line for people. Pure. */
import type { AzHealth, HealthPolicy } from './az-health.ts';
import { penaltyAt } from './damping.ts';

export interface Evidence {
  /** Targets that count as answering, and how many of them are needed. */
  readonly answering: number;
  readonly quorum: number;
  readonly targets: readonly TargetEvidence[];
  /** Signs of life that the kernel saw, each at so many looks in a row. */
  readonly signs: readonly { name: string; successes: number }[];
  /** Of flap damping, at the moment of the decision. */
  readonly penalty: number;
}

export interface TargetEvidence {
  readonly target: string;
  readonly up: boolean;
  /** In a row. */
  readonly failures: number;
  readonly successes: number;
  /** Since the first of the failures in a row; null: there is none. */
  readonly failingForMs: number | null;
  readonly lastError: string | null;
}

const MAX_TARGETS_IN_TEXT = 3;

export function evidenceOf(health: AzHealth, policy: HealthPolicy, nowMs: number): Evidence {
  return {
    answering: health.targets.filter(({ up }) => up).length,
    quorum: policy.quorum,
    targets: health.targets.map(({ name, up, failures, successes, failingSinceMs, lastError }) => ({
      target: name,
      up,
      failures,
      successes,
      failingForMs: failingSinceMs === null ? null : Math.round(Math.max(0, nowMs - failingSinceMs)),
      lastError,
    })),
    signs: health.signs,
    penalty: Math.round(penaltyAt(health.penalty, policy.flap, nowMs)),
  };
}

/** `0 of 2 targets answer, 1 needed: 10.1.0.1:443 connection refused (3 in a row)…` */
export function evidenceText({ answering, quorum, targets, signs }: Evidence): string {
  const seen = signs.map(({ name, successes }) => `${name} at ${successes} looks in a row`).join(', ');
  if (targets.length === 0) return seen;
  const noun = targets.length === 1 ? 'target' : 'targets';
  const text = `${answering} of ${targets.length} ${noun} answer, ${quorum} needed`;
  const down = targets.filter(({ up }) => !up);
  if (down.length === 0) return seen === '' ? text : `${text}; ${seen}`;
  const named = down
    .slice(0, MAX_TARGETS_IN_TEXT)
    .map(({ target, lastError, failures }) => `${target} ${lastError ?? 'did not answer yet'} (${failures} in a row)`);
  const more = down.length > named.length ? [`${down.length - named.length} more`] : [];
  return `${text}: ${[...named, ...more].join('; ')}`;
}
