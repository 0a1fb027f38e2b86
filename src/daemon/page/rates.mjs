// SPDX-License-Identifier: Apache-2.0
/** From counters to rates. Pure: time is given. */

/** Differences over less time than this say little. */
const MIN_ELAPSED_MS = 100;

/** Rates of counters between one look and the next. Only the last look is kept. */
export class Rates {
  /** @type {Map<string, number>} */
  #before = new Map();
  #beforeMs = Number.NaN;

  /**
   * @param {Iterable<readonly [string, number]>} counters
   * @param {number} nowMs when they were read, on a clock that never goes back
   * @returns {(name: string) => number | null} by name, in units per second; null: not known, because the counter was
   *   not there before or began anew
   */
  update(counters, nowMs) {
    const before = this.#before;
    const elapsedMs = nowMs - this.#beforeMs;
    const now = new Map(counters);
    this.#before = now;
    this.#beforeMs = nowMs;
    return (name) => {
      const [first, last] = [before.get(name), now.get(name)];
      if (first === undefined || last === undefined || last < first || !(elapsedMs >= MIN_ELAPSED_MS)) return null;
      return ((last - first) * 1000) / elapsedMs;
    };
  }

  /** What comes next is another thing. */
  reset() {
    this.#before = new Map();
    this.#beforeMs = Number.NaN;
  }
}

/** The last values of something, at most as many as it was made for. */
export class History {
  /** @type {(number | null)[]} */
  #values = [];
  #capacity;

  /** @param {number} capacity */
  constructor(capacity) {
    this.#capacity = capacity;
  }

  /** @param {number | null} value null: a gap */
  push(value) {
    this.#values.push(value);
    if (this.#values.length > this.#capacity) this.#values.shift();
  }

  clear() {
    this.#values = [];
  }

  /**
   * As a path of SVG; the newest value is at the right edge.
   * @param {number} width
   * @param {number} height
   * @returns {string}
   */
  path(width, height) {
    const top = Math.max(1e-9, ...this.#values.map((value) => value ?? 0));
    const step = width / (this.#capacity - 1);
    const start = this.#capacity - this.#values.length;
    let isDrawing = false;
    const parts = this.#values.map((value, index) => {
      const command = isDrawing ? 'L' : 'M';
      isDrawing = value !== null;
      if (value === null) return '';
      return `${command}${((start + index) * step).toFixed(1)} ${(height - (value / top) * height).toFixed(1)}`;
    });
    return parts.join('');
  }
}

export const HEAT_STEPS = 10;

/**
 * The step of a heat scale: 0 for nothing at all, then 1 to 9 up to the largest.
 * @param {number | null} value
 * @param {number} largest
 * @returns {number}
 */
export function heatStep(value, largest) {
  if (value === null || value <= 0 || largest <= 0) return 0;
  return Math.min(HEAT_STEPS - 1, 1 + Math.floor((value / largest) * (HEAT_STEPS - 1)));
}
