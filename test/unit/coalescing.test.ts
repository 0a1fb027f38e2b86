// SPDX-License-Identifier: Apache-2.0
/** The controller of coalescing, fed with simulated traffic. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type CoalescingSettings, type CoalescingState, ladder, nextStep, quiet } from '../../src/tune/coalescing.ts';

const settings: CoalescingSettings = { coalesceUsecs: 64, threshold: 1000 };

/** States after each look at traffic of these rates. */
function follow(rates: readonly number[], from: CoalescingState = quiet, by = settings): CoalescingState[] {
  let state = from;
  return rates.map((rate) => {
    state = nextStep(state, rate, by);
    return state;
  });
}

function changes(states: readonly CoalescingState[]): number {
  return states.filter(({ step }, at) => at > 0 && step !== states[at - 1]!.step).length;
}

const looks = 400;
const anyRate = fc.double({ min: 0, max: 1e7, noNaN: true });
const anySettings = fc.record({
  coalesceUsecs: fc.integer({ min: 0, max: 65_535 }),
  threshold: fc.integer({ min: 1, max: 1e6 }),
});

describe('adaptive coalescing', () => {
  it('delays nothing when it is quiet, and as long as is allowed when it is busy', () => {
    assert.deepEqual(ladder(64), [0, 8, 16, 32, 64]);
    assert.deepEqual(ladder(0), [0]);
    assert.deepEqual(ladder(2), [0, 1, 2]);
    const ends = [0, 999, 1000, 2000, 4000, 8000, 1e6].map(
      (rate) => follow(Array(20).fill(rate) as number[]).at(-1)!.step,
    );
    assert.deepEqual(ends, [0, 0, 1, 2, 3, 4, 4]);
  });

  it('settles: a steady rate that flickers by a fifth either way moves it once at most after the first looks', () => {
    fc.assert(
      fc.property(
        anySettings,
        anyRate,
        fc.array(fc.double({ min: 0.8, max: 1.2, noNaN: true }), { minLength: looks, maxLength: looks }),
        (by, rate, flicker) => {
          const states = follow(
            flicker.map((factor) => rate * factor),
            quiet,
            by,
          );
          // It goes up only: what is within the flicker never brings it down again.
          for (let at = 1; at < states.length; at++)
            assert.ok(states[at]!.step >= states[at - 1]!.step, `down at look ${at}`);
          assert.ok(changes(states) <= 2, `${changes(states)} changes`);
        },
      ),
    );
  });

  it('follows a change of load within five looks, up within two', () => {
    fc.assert(
      fc.property(anySettings, anyRate, anyRate, (by, first, second) => {
        const before = follow(Array(50).fill(first) as number[], quiet, by).at(-1)!;
        const after = follow(Array(50).fill(second) as number[], before, by);
        const reached = after.findIndex(({ step }) => step === after.at(-1)!.step);
        assert.ok(reached <= (after.at(-1)!.step > before.step ? 1 : 4), `reached at look ${reached + 1}`);
        assert.ok(changes([before, ...after]) <= 1);
      }),
    );
  });

  it('comes back to no delay when it is quiet again', () => {
    fc.assert(
      fc.property(anySettings, fc.array(anyRate, { maxLength: 50 }), (by, rates) => {
        const state = follow(rates, quiet, by).at(-1) ?? quiet;
        assert.equal(follow([0, 0, 0, 0, 0], state, by).at(-1)!.step, 0);
      }),
    );
  });

  it('is not moved by a burst of one look, nor by a pause of one', () => {
    assert.equal(changes(follow([0, 0, 1e6, 0, 0, 1e6, 0, 0, 0])), 0);
    const busy = follow(Array(10).fill(1e6) as number[]).at(-1)!;
    assert.equal(changes([busy, ...follow([1e6, 0, 1e6, 1e6, 0, 0, 0, 1e6], busy)]), 0);
  });

  it('stays on the ladder whatever happens, also when the ladder gets shorter', () => {
    fc.assert(
      fc.property(
        anySettings,
        fc.array(anyRate, { maxLength: 100 }),
        fc.integer({ min: 0, max: 9 }),
        (by, rates, step) => {
          for (const state of follow(rates, { step, above: 0, below: 0 }, by)) {
            assert.ok(state.step >= 0 && state.step < ladder(by.coalesceUsecs).length);
          }
        },
      ),
    );
  });
});
