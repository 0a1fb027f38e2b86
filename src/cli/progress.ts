// SPDX-License-Identifier: Apache-2.0
/** A line on stderr that says how far long work is, while stderr is a terminal. In a pipe nothing is written. */
import { setTimeout as sleep } from 'node:timers/promises';
import { cut } from './output.ts';

export interface ProgressStream {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

/** Work that is over before is not worth a line. */
const FIRST_AFTER_MS = 300;
const EVERY_MS = 200;
const CLEAR_LINE = '\r\x1b[K';

export class Progress implements Disposable {
  readonly #stream: ProgressStream | null;
  readonly #startMs = performance.now();
  readonly #timer: NodeJS.Timeout | null;
  #text: string;
  #drawnMs = Number.NEGATIVE_INFINITY;
  #isShown = false;

  /** @param text what is being done; how long it has taken stands behind it */
  constructor(text: string, stream: ProgressStream = process.stderr, term = process.env['TERM']) {
    this.#text = text;
    // A dumb terminal cannot take a line back.
    this.#stream = stream.isTTY === true && term !== 'dumb' ? stream : null;
    this.#timer = this.#stream === null ? null : setInterval(() => this.#drawIfDue(), EVERY_MS);
    this.#timer?.unref();
  }

  /** Costs next to nothing: it may be called for every step. */
  show(text: string): void {
    this.#text = text;
    this.#drawIfDue();
  }

  /** At once: the event loop is about to be busy. */
  showNow(text = this.#text): void {
    this.#text = text;
    this.#draw();
  }

  #drawIfDue(): void {
    const nowMs = performance.now();
    if (nowMs - this.#startMs >= FIRST_AFTER_MS && nowMs - this.#drawnMs >= EVERY_MS) this.#draw();
  }

  #draw(): void {
    if (this.#stream === null) return;
    this.#drawnMs = performance.now();
    const seconds = Math.floor((this.#drawnMs - this.#startMs) / 1000);
    const line = seconds === 0 ? this.#text : `${this.#text}, ${seconds} s`;
    this.#stream.write(`${CLEAR_LINE}${cut(line, (this.#stream.columns ?? 80) - 1)}`);
    this.#isShown = true;
  }

  /** Makes room for other text; the next look brings the line back. */
  clear(): void {
    if (this.#isShown) this.#stream?.write(CLEAR_LINE);
    this.#isShown = false;
  }

  [Symbol.dispose](): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.clear();
  }
}

/** Waits, and says how long yet. */
export async function waitFor(seconds: number, what: string, signal?: AbortSignal): Promise<void> {
  using progress = new Progress(what);
  const endMs = performance.now() + seconds * 1000;
  for (let leftMs = seconds * 1000; leftMs > 0 && signal?.aborted !== true; leftMs = endMs - performance.now()) {
    progress.show(`${what}: ${Math.ceil(leftMs / 1000)} s left`);
    await sleep(Math.min(leftMs, EVERY_MS), undefined, { signal }).catch(() => {});
  }
}

export async function withProgress<T>(what: string, work: () => Promise<T>): Promise<T> {
  using _progress = new Progress(what);
  return await work();
}
