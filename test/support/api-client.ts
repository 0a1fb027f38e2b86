// SPDX-License-Identifier: Apache-2.0
/**
 * The daemon's API as a user's program sees it: a client that a generator made from the OpenAPI document, and plain
 * requests for what such a client would never send. Every answer is held against the document.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { request as httpRequest } from 'node:http';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { ApiDocument } from '../../src/daemon/http/openapi-shape.ts';
import type { TestDaemon } from './daemon.ts';
import { Conformance, type DocumentedOperation } from './openapi.ts';

export type GeneratedClient = typeof import('../../build/client/api.ts');
export type Problem = import('../../build/client/api.ts').Problem;

const root = path.join(import.meta.dirname, '../..');

/** Makes the client and loads it. */
export async function generateClient(): Promise<GeneratedClient> {
  execFileSync(process.execPath, [path.join(root, 'scripts/generate-client.ts')], { stdio: 'inherit' });
  return (await import(path.join(root, 'build/client/api.ts'))) as GeneratedClient;
}

export interface PlainRequest {
  body?: string | Buffer;
  headers?: Record<string, string>;
}

export interface PlainReply {
  status: number;
  headers: Headers;
  text: string;
}

export type Parameters = Readonly<Record<string, string | number>>;

/** The path of an operation with its parameters filled in. */
export function urlOf({ path: template }: DocumentedOperation, parameters: Parameters): string {
  return template.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
    const value = parameters[name];
    assert.ok(value !== undefined, `${template} takes ${name}`);
    return encodeURIComponent(value);
  });
}

/** One daemon over TCP. */
export class ApiCaller {
  readonly conformance: Conformance;
  readonly #baseUrl: string;
  readonly #token: string;

  constructor(conformance: Conformance, daemon: TestDaemon) {
    this.conformance = conformance;
    this.#baseUrl = daemon.baseUrl;
    this.#token = daemon.writeToken.token;
  }

  /** Reads the document from the daemon that it describes. */
  static async connect(daemon: TestDaemon): Promise<ApiCaller> {
    const document = await daemon.ask('GET', '/api/v1/openapi.json');
    return new ApiCaller(new Conformance(document as unknown as ApiDocument), daemon);
  }

  /** Makes a generated client talk to this daemon, with its token of scope write. */
  configure({ defaults }: GeneratedClient): void {
    defaults.baseUrl = this.#baseUrl;
    defaults.headers = { authorization: `Bearer ${this.#token}` };
    defaults.fetch = this.fetch;
  }

  /** As fetch() does, and holds the answer against the document. */
  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    assert.ok(typeof input === 'string', 'the client calls fetch with a text');
    const { pathname, search } = new URL(input);
    const response = await globalThis.fetch(input, init);
    const isStream = response.headers.get('content-type') === 'text/event-stream';
    this.conformance.check({
      method: init?.method ?? 'GET',
      url: `${pathname}${search}`,
      status: response.status,
      headers: response.headers,
      text: isStream ? null : await response.clone().text(),
    });
    return response;
  };

  /** Sends just this, with the token of scope write unless the headers say otherwise. Streams are cut off. */
  async send(method: string, url: string, { body, headers = {} }: PlainRequest = {}): Promise<PlainReply> {
    const { promise, resolve, reject } = Promise.withResolvers<PlainReply>();
    const outgoing = httpRequest(`${this.#baseUrl}${url}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...(body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        ...headers,
      },
    });
    outgoing.on('error', reject);
    outgoing.on('response', (incoming) => {
      const status = incoming.statusCode ?? 0;
      const received = new Headers(Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]));
      if (received.get('content-type') === 'text/event-stream') {
        incoming.destroy();
        resolve({ status, headers: received, text: '' });
        return;
      }
      buffer(incoming).then((bytes) => resolve({ status, headers: received, text: bytes.toString() }), reject);
    });
    outgoing.end(body);
    const reply = await promise;
    this.conformance.check({ method, url, ...reply });
    return reply;
  }

  /** Sends a request for an operation. */
  async call(operation: DocumentedOperation, parameters: Parameters, request: PlainRequest = {}): Promise<PlainReply> {
    return await this.send(operation.method, urlOf(operation, parameters), request);
  }
}

interface Answer {
  status: number;
  headers: Headers;
  data: unknown;
}

/** The data of a success; throws what the problem says otherwise. */
export async function ok<T extends Answer>(call: Promise<T>): Promise<Extract<T, { status: 200 | 201 }>> {
  const answer = await call;
  assert.ok(answer.status === 200 || answer.status === 201, `${answer.status}: ${JSON.stringify(answer.data)}`);
  return answer as Extract<T, { status: 200 | 201 }>;
}

/** The problem of what must be refused with this status and code. */
export async function refused(call: Promise<Answer>, status: number, code: Problem['code']): Promise<Problem> {
  const { status: actual, data } = await call;
  const problem = data as Problem;
  assert.deepEqual([actual, problem.code], [status, code], JSON.stringify(data));
  return problem;
}

/** The ETag of an answer. */
export function etagOf({ headers }: { headers: Headers }): string {
  const etag = headers.get('etag');
  assert.ok(etag !== null, 'the answer has no ETag');
  return etag;
}

export interface SentEvent {
  id: string;
  type: string;
  device: string | null;
  data: Record<string, unknown>;
}

/** Follows the events of a daemon, each held against the document. */
export class EventFollower implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #conformance: Conformance;
  readonly #chunks: AsyncIterator<string>;
  #text = '';

  private constructor(conformance: Conformance, stream: ReadableStream<Uint8Array>, stop: AbortController) {
    this.#conformance = conformance;
    this.#stop = stop;
    this.#chunks = stream.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
  }

  /** Resolves when the daemon has begun to answer: what happens from then on is told. */
  static async open(
    caller: ApiCaller,
    daemon: TestDaemon,
    headers: Record<string, string> = {},
  ): Promise<EventFollower> {
    const stop = new AbortController();
    const response = await caller.fetch(`${daemon.baseUrl}/api/v1/events`, { headers, signal: stop.signal });
    assert.equal(response.status, 200);
    return new EventFollower(caller.conformance, response.body!, stop);
  }

  /** The next event; what only keeps the connection alive is left out. */
  async next(): Promise<SentEvent> {
    for (;;) {
      const end = this.#text.indexOf('\n\n');
      if (end === -1) {
        const { value, done } = await this.#chunks.next();
        assert.ok(done !== true, 'the stream of events ended');
        this.#text += value;
        continue;
      }
      const block = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 2);
      const fields = Object.fromEntries(
        block.split('\n').map((line) => /^(\w*): ?(.*)$/.exec(line)?.slice(1) ?? ['', '']),
      );
      if (fields['data'] === undefined) continue;
      const event = JSON.parse(fields['data']) as SentEvent;
      this.#conformance.checkSchema('Event', event);
      assert.deepEqual([fields['id'], fields['event']], [event.id, event.type]);
      return event;
    }
  }

  /** The next `count` events of a device. */
  async of(device: string, count: number): Promise<SentEvent[]> {
    const events: SentEvent[] = [];
    while (events.length < count) {
      const event = await this.next();
      if (event.device === device) events.push(event);
    }
    return events;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#chunks.next().catch(() => undefined);
  }
}
