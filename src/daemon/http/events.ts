// SPDX-License-Identifier: Apache-2.0
/** Server-sent events (HTML standard, 9.2): what happens, for as long as somebody listens. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { encodeJson, negotiate } from '../../api/bodies.ts';
import type { DaemonConfig, TokenConfig } from '../../config/daemon.ts';
import { VnicError } from '../../errors.ts';
import type { EventLog, LoggedEvent } from '../event-log.ts';
import { exchangeOf } from './exchange.ts';

const EVENT_STREAM = 'text/event-stream';

/** What may wait for a reader before it is cut off. */
const MAX_WAITING_BYTES = 1024 * 1024;

/** A browser tries again after this. */
const RETRY_MS = 2000;

const MAX_LATEST = 4096;

interface Stream {
  readonly response: ServerResponse;
  readonly token: TokenConfig | null;
}

function eventText({ type, ...event }: LoggedEvent): string {
  const data = Buffer.from(encodeJson({ type, ...event })).toString();
  return `id: ${event.id}\nevent: ${type}\ndata: ${data}\n\n`;
}

/** Throws `usage`. */
function latestOf({ latest, ...others }: Record<string, string>): number | null {
  const [other] = Object.keys(others);
  const isNumber = latest === undefined || (/^\d{1,4}$/.test(latest) && Number(latest) <= MAX_LATEST);
  if (other === undefined && isNumber) return latest === undefined ? null : Number(latest);
  const wrong = other === undefined ? `latest is ${JSON.stringify(latest)}` : `${other} is not known here`;
  throw new VnicError('usage', `The query is not valid: ${wrong}.`, {
    remedy: `Give latest as a whole number from 0 to ${MAX_LATEST}, or nothing.`,
  });
}

export class EventStreams {
  readonly #events: EventLog;
  readonly #config: () => DaemonConfig;
  readonly #heartbeatMs: number;
  readonly #streams = new Set<Stream>();
  #isClosed = false;

  constructor(events: EventLog, config: () => DaemonConfig, heartbeatMs: number) {
    this.#events = events;
    this.#config = config;
    this.#heartbeatMs = heartbeatMs;
  }

  get count(): number {
    return this.#streams.size;
  }

  /** Throws `usage`, `not_acceptable`, `too_many_requests`, `not_ready`. */
  open(request: IncomingMessage, response: ServerResponse, query: Record<string, string>): void {
    const latest = latestOf(query);
    const { accept } = request.headers;
    if (negotiate(accept, [EVENT_STREAM]) === null) {
      throw new VnicError('not_acceptable', `This is not to be had as ${accept}.`, {
        remedy: `It can be had as ${EVENT_STREAM}.`,
      });
    }
    if (this.#isClosed) {
      throw new VnicError('not_ready', 'The daemon is stopping.', { remedy: 'Try again in a moment.' });
    }
    const { eventStreams } = this.#config().limits;
    if (this.#streams.size >= eventStreams) {
      throw new VnicError('too_many_requests', `${eventStreams} clients follow the events, which is the limit.`, {
        remedy: 'Close one of them, or raise daemon.limits.event_streams.',
      });
    }
    // A proxy that keeps answers together until they are complete would keep this one for ever.
    // The connection ends with the stream: an ended one is closed at once, not kept for another request.
    response.writeHead(200, { 'content-type': EVENT_STREAM, 'x-accel-buffering': 'no', connection: 'close' });
    if (request.method === 'HEAD') response.end();
    else this.#follow(request, response, this.#missed(request, latest));
  }

  /** What is sent first. */
  #missed({ headers }: IncomingMessage, latest: number | null): string {
    const lastId = headers['last-event-id'];
    if (lastId === undefined || lastId === '') {
      const events = latest === null || latest === 0 ? [] : this.#events.latest(latest);
      return events.map(eventText).join('');
    }
    const { events, incomplete } = this.#events.since(String(lastId));
    // Where nothing follows, the id says from where on to count: a client that is cut off again is not reset again.
    const position = events.length === 0 ? `id: ${this.#events.position}\n` : '';
    return `${incomplete ? `${position}event: reset\ndata: {}\n\n` : ''}${events.map(eventText).join('')}`;
  }

  #follow(request: IncomingMessage, response: ServerResponse, missed: string): void {
    const exchange = exchangeOf(request);
    const stream: Stream = { response, token: exchange.token };
    this.#streams.add(stream);
    // What was missed may be a lot, and is no sign of a slow reader.
    let allowed = MAX_WAITING_BYTES + Buffer.byteLength(missed);
    const write = (text: string): void => {
      if (response.writableEnded || response.destroyed) return;
      exchange.bytes += Buffer.byteLength(text);
      response.write(text);
      if (response.writableLength > allowed) response.destroy();
    };
    response.once('drain', () => {
      allowed = MAX_WAITING_BYTES;
    });
    // The empty comment tells a reader that this was all of the past.
    write(`retry: ${RETRY_MS}\n\n${missed}:\n\n`);
    const unfollow = this.#events.follow((event) => write(eventText(event)));
    const heartbeat = setInterval(() => write(':\n\n'), this.#heartbeatMs).unref();
    response.once('close', () => {
      clearInterval(heartbeat);
      unfollow();
      this.#streams.delete(stream);
    });
  }

  /** Ends the streams whose token does not count any more. */
  recheckTokens(): void {
    const known = new Set(this.#config().tokens.map(({ sha256 }) => sha256));
    for (const { response, token } of this.#streams) {
      if (token !== null && !known.has(token.sha256)) response.end();
    }
  }

  close(): void {
    this.#isClosed = true;
    for (const { response } of this.#streams) response.end();
  }
}
