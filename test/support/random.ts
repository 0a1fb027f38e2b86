// SPDX-License-Identifier: Apache-2.0
/** Random numbers that are the same in every run. */

/** xorshift32 (Marsaglia, 2003): each call gives the next u32. The seed must not be 0. */
export function randomSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
}
