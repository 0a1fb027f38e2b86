// SPDX-License-Identifier: Apache-2.0
/** Looks again and again, one look at a time. */
import { pause } from './event-stream.mjs';

export class Poller {
  #everyMs;
  #look;
  /** @type {AbortController | null} */
  #run = null;
  #waiting = new AbortController();

  /**
   * @param {number} everyMs from the beginning of one look to the next, if it is over by then
   * @param {(signal: AbortSignal) => Promise<void>} look never throws
   */
  constructor(everyMs, look) {
    this.#everyMs = everyMs;
    this.#look = look;
  }

  start() {
    if (this.#run !== null) return;
    this.#run = new AbortController();
    void this.#loop(this.#run.signal);
  }

  /** A look that is on its way ends, and says no more than its signal does. */
  stop() {
    this.#run?.abort();
    this.#run = null;
    this.#waiting.abort();
  }

  /** Does not wait for the time of the next look. */
  hurry() {
    this.#waiting.abort();
  }

  /** @param {AbortSignal} signal */
  async #loop(signal) {
    while (!signal.aborted) {
      const startMs = performance.now();
      this.#waiting = new AbortController();
      const { signal: waiting } = this.#waiting;
      await this.#look(signal);
      if (signal.aborted) return;
      await pause(Math.max(0, this.#everyMs - (performance.now() - startMs)), waiting);
    }
  }
}
