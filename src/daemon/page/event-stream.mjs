// SPDX-License-Identifier: Apache-2.0
/**
 * Server-sent events (HTML standard, 9.2.6) over fetch: the browser's own EventSource sends no bearer token, and begins
 * anew after an answer of 4xx or 5xx never.
 */

/** @typedef {{ id: string, type: string, data: string }} StreamEvent */

/** Turns the pieces of a stream, wherever they are cut, into events. */
export class EventParser {
  #decoder = new TextDecoder();
  #rest = '';
  #lastId = '';
  /** Of the event that is coming in: it counts when the event is complete. */
  #id = '';
  #type = '';
  /** @type {string[]} */
  #data = [];
  /** What the server asks for. */
  retryMs = 2000;

  /** Of the last event that had one; empty: none yet. */
  get lastId() {
    return this.#lastId;
  }

  /** After a break: what was cut off is sent again. */
  restart() {
    this.#decoder = new TextDecoder();
    this.#rest = '';
    this.#id = this.#lastId;
    this.#type = '';
    this.#data = [];
  }

  /**
   * @param {Uint8Array} bytes
   * @returns {StreamEvent[]} those that are complete now
   */
  push(bytes) {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split('\n');
    this.#rest = lines.pop() ?? '';
    return lines.flatMap((line) => this.#line(line.replace(/\r$/, '')));
  }

  /** @param {string} line */
  #line(line) {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') this.#type = value;
    if (field === 'data') this.#data.push(value);
    if (field === 'id' && !value.includes('\0')) this.#id = value;
    if (field === 'retry' && /^\d+$/.test(value)) this.retryMs = Number(value);
    return [];
  }

  /** @returns {StreamEvent[]} */
  #dispatch() {
    const [type, data] = [this.#type || 'message', this.#data];
    this.#lastId = this.#id;
    this.#type = '';
    this.#data = [];
    return data.length === 0 ? [] : [{ id: this.#lastId, type, data: data.join('\n') }];
  }
}

/**
 * Follows the events for as long as it is not stopped: reconnects, and goes on after the last one that it saw.
 */
export class EventFollower {
  #parser = new EventParser();
  /** @type {AbortController | null} */
  #run = null;
  #open;
  #onEvent;
  #onState;

  /**
   * @param {object} parts
   * @param {(lastId: string, signal: AbortSignal) => Promise<ReadableStream<Uint8Array>>} parts.open
   * @param {(event: StreamEvent) => void} parts.onEvent
   * @param {(error: Error | null) => void} parts.onState null: connected
   */
  constructor({ open, onEvent, onState }) {
    this.#open = open;
    this.#onEvent = onEvent;
    this.#onState = onState;
  }

  start() {
    if (this.#run !== null) return;
    const run = new AbortController();
    this.#run = run;
    void this.#follow(run.signal);
  }

  stop() {
    this.#run?.abort();
    this.#run = null;
  }

  /** @param {AbortSignal} signal */
  async #follow(signal) {
    while (!signal.aborted) {
      try {
        this.#parser.restart();
        const stream = await this.#open(this.#parser.lastId, signal);
        this.#onState(null);
        for (const reader = stream.getReader(); ; ) {
          const { done, value } = await reader.read();
          if (done || signal.aborted) break;
          for (const event of this.#parser.push(value)) this.#onEvent(event);
        }
      } catch (error) {
        if (!signal.aborted && error instanceof Error) this.#onState(error);
      }
      await pause(this.#parser.retryMs, signal);
    }
  }
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal ends it early
 * @returns {Promise<void>}
 */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}
