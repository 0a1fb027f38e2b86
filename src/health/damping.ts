// SPDX-License-Identifier: Apache-2.0
/** Flap damping (RFC 2439, section 4.2): what fails again and again is trusted again only after a while. Pure. */
import type { FlapDamping } from '../steering/azs.ts';

export interface Penalty {
  /** As it was at `atMs`. */
  readonly value: number;
  /** On the given monotonic clock. */
  readonly atMs: number;
  /** Whether it went beyond `suppress`, and was not found down to `reuse` since. */
  readonly suppressing: boolean;
}

/** So many half-lives after the last failure nothing is suppressed any more (RFC 2439's ceiling). */
const LONGEST_SUPPRESSION_HALF_LIVES = 4;

export function noPenalty(nowMs: number): Penalty {
  return { value: 0, atMs: nowMs, suppressing: false };
}

/** What is left of it. */
export function penaltyAt({ value, atMs }: Penalty, flap: FlapDamping, nowMs: number): number {
  return value * 0.5 ** (Math.max(0, nowMs - atMs) / flap.halfLifeMs);
}

export function penaltyAfterFailure(penalty: Penalty, flap: FlapDamping, nowMs: number): Penalty {
  const ceiling = Math.max(flap.reuse * 2 ** LONGEST_SUPPRESSION_HALF_LIVES, flap.suppress + flap.penalty);
  const value = Math.min(ceiling, penaltyAt(penalty, flap, nowMs) + flap.penalty);
  const atMs = Math.max(nowMs, penalty.atMs);
  return { value, atMs, suppressing: isSuppressing(penalty, flap, nowMs) || value > flap.suppress };
}

export function isSuppressing(penalty: Penalty, flap: FlapDamping, nowMs: number): boolean {
  return penalty.suppressing && penaltyAt(penalty, flap, nowMs) > flap.reuse;
}
