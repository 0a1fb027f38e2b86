// SPDX-License-Identifier: Apache-2.0
/** Requests to the daemon that served the page, and the token that goes with them. */

/** @import { Problem } from './types.ts' */

/** A change of 100,000 rules keeps the daemon busy for seconds; longer than this it counts as gone. */
const TIMEOUT_MS = 8000;

const STORED_TOKEN = 'vnic-token';

/** The daemon answered, and not with what was asked for. */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {Partial<Problem>} problem
   */
  constructor(status, { code, detail, remedy, title }) {
    super(detail ?? title ?? `The daemon answered with status ${status}.`);
    this.name = 'Refused';
    this.status = status;
    this.code = code ?? 'failed';
    this.remedy = remedy ?? null;
  }
}

/** There was no answer. */
export class Unreachable extends Error {
  /**
   * @param {string} message
   * @param {unknown} cause
   */
  constructor(message, cause) {
    super(message, { cause });
    this.name = 'Unreachable';
  }
}

/** The token of this tab: it is gone with it. */
export class TokenStore {
  /** @type {string | null} */
  #token = readStored();

  get value() {
    return this.#token;
  }

  /** @param {string | null} token */
  set(token) {
    this.#token = token;
    try {
      if (token === null) sessionStorage.removeItem(STORED_TOKEN);
      else sessionStorage.setItem(STORED_TOKEN, token);
    } catch {
      // A browser that stores nothing asks for it again after a reload.
    }
  }
}

function readStored() {
  try {
    return sessionStorage.getItem(STORED_TOKEN);
  } catch {
    return null;
  }
}

export class Api {
  #token;

  /** @param {{ readonly value: string | null }} token */
  constructor(token) {
    this.#token = token;
  }

  /**
   * Throws Refused, Unreachable.
   * @template Data
   * @param {string} path
   * @returns {Promise<Data>}
   */
  get(path) {
    return this.send('GET', path);
  }

  /**
   * Throws Refused, Unreachable.
   * @template Data
   * @param {'GET' | 'POST'} method
   * @param {string} path
   * @param {unknown} [body]
   * @param {string | null} [token] another one than the tab's
   * @returns {Promise<Data>}
   */
  async send(method, path, body, token = this.#token.value) {
    const response = await this.#fetch(path, {
      method,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      headers: { ...bearer(token), ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await orUnreachable(response.text());
    if (!response.ok) throw new Refused(response.status, problemOf(text));
    return JSON.parse(text);
  }

  /**
   * The stream of events; the caller reads it. Throws Refused, Unreachable.
   * @param {string} lastId empty: none
   * @param {number} latest so many earlier ones, where there is no id
   * @param {AbortSignal} signal
   * @returns {Promise<ReadableStream<Uint8Array>>}
   */
  async events(lastId, latest, signal) {
    const response = await this.#fetch(`/api/v1/events${lastId === '' ? `?latest=${latest}` : ''}`, {
      signal,
      headers: {
        ...bearer(this.#token.value),
        accept: 'text/event-stream',
        ...(lastId === '' ? {} : { 'last-event-id': lastId }),
      },
    });
    if (!response.ok) throw new Refused(response.status, problemOf(await orUnreachable(response.text())));
    if (response.body === null) throw new Unreachable('The stream of events has no body.', null);
    return response.body;
  }

  /**
   * @param {string} path
   * @param {RequestInit} options
   */
  #fetch(path, options) {
    return orUnreachable(fetch(path, { ...options, credentials: 'omit', redirect: 'error', cache: 'no-store' }));
  }
}

/**
 * @template Data
 * @param {Promise<Data>} work
 * @returns {Promise<Data>}
 */
async function orUnreachable(work) {
  try {
    return await work;
  } catch (cause) {
    const isLate = cause instanceof DOMException && cause.name === 'TimeoutError';
    throw new Unreachable(isLate ? `no answer within ${TIMEOUT_MS / 1000} s` : 'no connection', cause);
  }
}

/**
 * @param {string | null} token
 * @returns {Record<string, string>}
 */
function bearer(token) {
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

/**
 * @param {string} text
 * @returns {Partial<Problem>}
 */
function problemOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/**
 * Of the device, for all that can be asked of it.
 * @param {string} device
 * @param {string} [rest] such as /azs
 * @returns {string}
 */
export function devicePath(device, rest = '') {
  return `/api/v1/devices/${encodeURIComponent(device)}${rest}`;
}
