// SPDX-License-Identifier: Apache-2.0
/** How much of everything: bodies, requests at a time and a second, header fields, and how long things may take. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RequestHandler } from 'express';
import express from 'express';
import { ipKeyGenerator, MemoryStore, rateLimit } from 'express-rate-limit';
import type { DaemonLimits } from '../../config/daemon.ts';
import { VnicError } from '../../errors.ts';
import { headerTooLarge } from './answers.ts';
import { exchangeOf } from './exchange.ts';

export interface HttpTimings {
  /** A header has to arrive within it. */
  headersTimeoutMs: number;
  /** A connection may wait for its next request for so long. */
  keepAliveTimeoutMs: number;
  /** Without a byte in either direction a connection ends, also one whose client does not read. */
  idleTimeoutMs: number;
  /** Between two looks for connections that are over time. */
  checkIntervalMs: number;
  /** What a refused client still sends is read for so long, so that it sees the answer. */
  lingerMs: number;
  /** A sign of life in event streams. */
  heartbeatMs: number;
}

export const defaultTimings: HttpTimings = {
  headersTimeoutMs: 10_000,
  keepAliveTimeoutMs: 5000,
  idleTimeoutMs: 120_000,
  checkIntervalMs: 1000,
  lingerMs: 1000,
  heartbeatMs: 15_000,
};

export const MAX_HEADER_BYTES = 16 * 1024;
export const MAX_HEADER_FIELDS = 64;

/** Throws `too_large` with status 431. */
export function requireFewHeaders({ rawHeaders }: IncomingMessage): void {
  const count = rawHeaders.length / 2;
  if (count > MAX_HEADER_FIELDS) throw headerTooLarge(`more than ${MAX_HEADER_FIELDS} fields`);
}

/** Requests of one address in a second, over TCP. The Unix socket is for those who may use it. */
export class RateLimit {
  readonly #store = new MemoryStore();
  readonly handler: RequestHandler;

  constructor(limits: () => DaemonLimits) {
    this.handler = rateLimit({
      windowMs: 1000,
      limit: () => limits().requestsPerSecond,
      store: this.#store,
      standardHeaders: false,
      legacyHeaders: false,
      // It would write to the terminal what it thinks of headers that are not looked at.
      validate: false,
      skip: (request) => exchangeOf(request).channel.kind === 'unix',
      keyGenerator: ({ socket }) => ipKeyGenerator(socket.remoteAddress ?? ''),
      handler: (_, __, next) => {
        const limit = limits().requestsPerSecond;
        next(
          new VnicError('too_many_requests', `More than ${limit} requests in a second came from this address.`, {
            remedy: 'Ask less often, use the Unix socket, or raise daemon.limits.requests_per_second.',
          }),
        );
      },
    });
  }

  close(): void {
    this.#store.shutdown();
  }
}

/** The place of a request among those that are worked on. */
export interface Place {
  /** Keeps the place until the work is done, even if the client does not wait for it. */
  during<T>(work: Promise<T>): Promise<T>;
  /** The request goes on without working. */
  leave(): void;
}

export class OpenRequests {
  readonly #limits: () => DaemonLimits;
  #count = 0;

  constructor(limits: () => DaemonLimits) {
    this.#limits = limits;
  }

  /** Throws `too_many_requests`. The place is free again when the response is over. */
  enter(response: ServerResponse): Place {
    const { openRequests } = this.#limits();
    if (this.#count >= openRequests) {
      throw new VnicError('too_many_requests', `${openRequests} requests are being worked on, which is the limit.`, {
        remedy: 'Try again in a moment, or raise daemon.limits.open_requests.',
      });
    }
    this.#count++;
    let holders = 1;
    const release = (): void => {
      if (--holders === 0) this.#count--;
    };
    let isIn = true;
    const leave = (): void => {
      if (isIn) release();
      isIn = false;
    };
    response.once('close', leave);
    return {
      leave,
      during: async (work) => {
        holders++;
        try {
          return await work;
        } finally {
          release();
        }
      },
    };
  }
}

/**
 * A body of a known length, in memory of its own, as it comes. The library joins its parts at the end: to touch a page of new
 * memory takes a machine up to 20 us, and 16 MB of them kept the event loop for 90 ms at once.
 */
function readInPlace(request: IncomingMessage, length: number): Promise<Uint8Array> {
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
  const bytes = new Uint8Array(length);
  let at = 0;
  request.on('data', (part: Buffer) => {
    bytes.set(part, at);
    at += part.length;
  });
  request.once('end', () => resolve(bytes));
  const abort = (): void => reject(Object.assign(new Error('The client went away.'), { type: 'request.aborted' }));
  request.once('error', abort).once('close', abort);
  return promise;
}

/** Reads a body as bytes, whatever its type; `too_large` and `unsupported_media_type` go to the error handler. */
export function bodyReader(limits: () => DaemonLimits): RequestHandler {
  const readerOf = (limit: number): RequestHandler => express.raw({ type: () => true, inflate: false, limit });
  let limit = limits().bodyBytes;
  let reader = readerOf(limit);
  return async (request, response, next) => {
    const { 'content-length': announced, 'content-encoding': encoding, expect = '' } = request.headers;
    const length = announced === undefined ? null : Number(announced);
    const { bodyBytes } = limits();
    // Known before a byte of it is read.
    if (length !== null && length > bodyBytes) throw bodyTooLarge(bodyBytes);
    if (bodyBytes !== limit) {
      limit = bodyBytes;
      reader = readerOf(limit);
    }
    if (/^100-continue$/i.test(expect)) response.writeContinue();
    if (length === null || encoding !== undefined) {
      reader(request, response, next);
      return;
    }
    request.body = await readInPlace(request, length);
    next();
  };
}

export function bodyTooLarge(limit: number): VnicError {
  return new VnicError('too_large', `The body is larger than ${limit} bytes.`, {
    remedy: 'Send less at a time, or raise daemon.limits.body_bytes.',
  });
}

/** The bytes of a body on memory of their own, so that they can be handed to another thread. Null: there is none. */
export function bodyOf(body: unknown): Uint8Array | null {
  if (!(body instanceof Uint8Array) || body.length === 0) return null;
  const { buffer, byteLength } = body;
  return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength
    ? new Uint8Array(buffer)
    : new Uint8Array(body);
}
