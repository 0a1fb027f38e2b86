// SPDX-License-Identifier: Apache-2.0
/**
 * Adaptive coalescing: how long the device may delay interrupts, by the packets it receives. Quiet: not at all, for the
 * lowest latency. Busy: up to `coalesceUsecs`, for fewer interrupts. Pure: rates in, times out.
 *
 * It is a ladder of few steps, each for twice the rate of the one before. It settles because a step is only left when the
 * rate is well outside of it and stays there: up at once to where the rate belongs after two looks, down after five.
 * So a steady load, however it flickers within a quarter, ends on one step, and a change is followed within five looks.
 */

export interface CoalescingSettings {
  /** The longest delay, µs; 0: never any. */
  readonly coalesceUsecs: number;
  /** Packets per second of the device at which it begins. */
  readonly threshold: number;
}

/** Delays are halves of each other; shorter ones than an eighth save no interrupts. */
const STEPS = 4;
const LOOKS_UP = 2;
const LOOKS_DOWN = 5;
/** A step is left downwards at this share of the rate at which it was entered. */
const DOWN_SHARE = 0.6;

/** Delays by step, µs: the first is 0. */
export function ladder(coalesceUsecs: number): number[] {
  const steps = Array.from({ length: STEPS }, (_, step) => Math.ceil(coalesceUsecs / 2 ** (STEPS - 1 - step)));
  return coalesceUsecs === 0 ? [0] : [0, ...new Set(steps)];
}

export interface CoalescingState {
  readonly step: number;
  /** Looks in a row that asked for a higher, and for a lower step. */
  readonly above: number;
  readonly below: number;
}

export const quiet: CoalescingState = { step: 0, above: 0, below: 0 };

/** The step that a rate belongs to: 0 below the threshold, 1 from it on, one more with each doubling. */
function stepOf(packetsPerSecond: number, { threshold }: CoalescingSettings, steps: number): number {
  if (packetsPerSecond < threshold) return 0;
  const doublings = threshold === 0 ? Number.POSITIVE_INFINITY : Math.floor(Math.log2(packetsPerSecond / threshold));
  return Math.min(1 + doublings, steps - 1);
}

/** One look. */
export function nextStep(
  state: CoalescingState,
  packetsPerSecond: number,
  settings: CoalescingSettings,
): CoalescingState {
  const steps = ladder(settings.coalesceUsecs).length;
  const step = Math.min(state.step, steps - 1);
  const up = stepOf(packetsPerSecond, settings, steps);
  const down = stepOf(packetsPerSecond / DOWN_SHARE, settings, steps);
  if (up > step) {
    const above = state.above + 1;
    return above < LOOKS_UP ? { step, above, below: 0 } : { step: up, above: 0, below: 0 };
  }
  if (down < step) {
    const below = state.below + 1;
    return below < LOOKS_DOWN ? { step, above: 0, below } : { step: down, above: 0, below: 0 };
  }
  return { step, above: 0, below: 0 };
}
