// SPDX-License-Identifier: Apache-2.0
/** The HTTP side of the daemon on a real socket and a real port, with an engine that only remembers what it was asked. */

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request as plainRequest } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import type { ApiRequest, ApiResponse } from '../../src/api/operation.ts';
import { type DaemonConfig, type DaemonLimits, daemonDefaults, type TokenConfig } from '../../src/config/daemon.ts';
import type { Engine } from '../../src/daemon/engine.ts';
import { EventLog } from '../../src/daemon/event-log.ts';
import type { Readiness } from '../../src/daemon/http/app.ts';
import type { HttpTimings } from '../../src/daemon/http/limits.ts';
import { HttpServer } from '../../src/daemon/http/server.ts';
import type { Metrics } from '../../src/daemon/metrics.ts';
import { VnicError } from '../../src/errors.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';

export function token(name: string, scope: TokenConfig['scope'], secret: string): TokenConfig {
  return { name, scope, sha256: createHash('sha256').update(secret).digest('hex') };
}

export class FakeEngine implements Engine {
  readonly calls: { id: string; request: ApiRequest }[] = [];
  answer: (id: string, request: ApiRequest) => ApiResponse | Promise<ApiResponse> = () => ({
    status: 200,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from('{"ok":true}'),
  });

  async call(id: string, request: ApiRequest): Promise<ApiResponse> {
    this.calls.push({ id, request });
    return await this.answer(id, request);
  }
}

export interface Asked {
  method?: string;
  headers?: OutgoingHttpHeaders;
  body?: string | Uint8Array;
  /** Over TCP instead of the Unix socket. */
  tcp?: boolean;
  /** Over TCP to this address. */
  host?: string;
  /** Certificate of the authority: asks over TLS. */
  ca?: Buffer;
}

export interface Answered {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
  text: string;
  json: Record<string, unknown>;
}

export interface RigOptions {
  config?: Partial<Omit<DaemonConfig, 'limits' | 'socket'>>;
  limits?: Partial<DaemonLimits>;
  socket?: Partial<DaemonConfig['socket']>;
  timings?: Partial<HttpTimings>;
  metrics?: Metrics;
  eventCapacity?: number;
}

const noMetrics: Metrics = {
  text: async (accept) => ({
    contentType: 'text/plain; version=0.0.4',
    body: Buffer.from(`# accept ${accept}`),
    tail: Buffer.from('\n'),
  }),
  json: async () => ({ metrics: [], unavailable: [] }),
};

export class HttpRig {
  readonly folder = mkdtempSync(path.join(tmpdir(), 'vnic-http-'));
  readonly engine = new FakeEngine();
  readonly events: EventLog;
  readonly config: DaemonConfig;
  readonly server: HttpServer;
  readonly log: Record<string, unknown>[] = [];
  logText = '';
  readiness: Readiness = { ready: true, reason: '' };
  readonly #sockets: Socket[] = [];

  constructor({ config, limits, socket, timings, metrics, eventCapacity }: RigOptions = {}) {
    this.events = new EventLog(1, eventCapacity);
    this.config = {
      ...daemonDefaults,
      listen: null,
      ...config,
      socket: { ...daemonDefaults.socket, path: path.join(this.folder, 'run', 'vnicd.sock'), ...socket },
      limits: { ...daemonDefaults.limits, ...limits },
    };
    const write = (line: string): void => {
      this.logText += line;
      this.log.push(JSON.parse(line) as Record<string, unknown>);
    };
    this.server = new HttpServer({
      engine: this.engine,
      events: this.events,
      config: this.config,
      isReady: () => this.readiness,
      native: loadNative(),
      log: pino({ level: 'debug' }, { write }),
      version: '1.2.3',
      metrics: metrics ?? noMetrics,
      fleet: () => {
        throw new VnicError('not_found', 'This machine belongs to no fleet.');
      },
      timings: { checkIntervalMs: 20, lingerMs: 200, ...timings },
    });
  }

  static async start(options: RigOptions = {}): Promise<HttpRig> {
    const rig = new HttpRig(options);
    await rig.server.listen();
    return rig;
  }

  /** On TCP as well. */
  static startTcp(options: RigOptions = {}): Promise<HttpRig> {
    return HttpRig.start({ ...options, config: { listen: { host: '127.0.0.1', port: 0 }, ...options.config } });
  }

  get socketPath(): string {
    return this.config.socket.path;
  }

  get port(): number {
    return this.server.tcpAddress!.port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.server.close(0);
    rmSync(this.folder, { recursive: true });
  }

  async ask(target: string, { method = 'GET', headers = {}, body, tcp, host, ca }: Asked = {}): Promise<Answered> {
    const isTcp = tcp === true || host !== undefined || ca !== undefined;
    const place = isTcp ? { host: host ?? '127.0.0.1', port: this.port } : { socketPath: this.socketPath };
    const options = { ...place, method, path: target, headers, agent: false as const };
    const outgoing =
      ca === undefined ? plainRequest(options) : tlsRequest({ ...options, ca, checkServerIdentity: () => undefined });
    outgoing.end(body);
    const { promise, resolve, reject } = Promise.withResolvers<Answered>();
    outgoing.once('error', reject);
    outgoing.once('response', (incoming) => {
      buffer(incoming).then((bytes) => {
        const text = bytes.toString();
        const isJson = /json/.test(incoming.headers['content-type'] ?? '') && text !== '';
        const json = isJson ? (JSON.parse(text) as Record<string, unknown>) : {};
        resolve({ status: incoming.statusCode!, headers: incoming.headers, body: bytes, text, json });
      }, reject);
    });
    return await promise;
  }

  /** A connection to which bytes are sent as they are. */
  connect({ tcp = false }: { tcp?: boolean } = {}): RawConnection {
    const socket = tcp ? connect(this.port, '127.0.0.1') : connect(this.socketPath);
    this.#sockets.push(socket);
    return new RawConnection(socket);
  }

  /** Sends bytes, and returns all that comes until the server closes. */
  async raw(bytes: string | Uint8Array, options: { tcp?: boolean } = {}): Promise<string> {
    const connection = this.connect(options);
    connection.socket.write(bytes);
    await connection.closed();
    return connection.received;
  }

  /** The first line of the log of which that is true. */
  async logged(isMeant: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>> {
    return await until(() => this.log.find(isMeant));
  }
}

export class RawConnection {
  readonly socket: Socket;
  received = '';
  readonly #closed: Promise<unknown>;

  constructor(socket: Socket) {
    this.socket = socket;
    this.#closed = once(socket, 'close');
    socket.on('data', (chunk: Buffer) => {
      this.received += chunk.toString('latin1');
    });
    // A reset is one way in which a server ends a connection.
    socket.on('error', () => {});
  }

  async closed(): Promise<void> {
    await this.#closed;
  }

  /** Waits until what came in matches. */
  async has(pattern: RegExp): Promise<string> {
    return await until(() => (pattern.test(this.received) ? this.received : undefined));
  }
}

/** Polls; the test's own timeout ends it. */
export async function until<T>(look: () => T | undefined): Promise<T> {
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    await sleep(5);
  }
}

/** Status and problem object of an answer that came over a raw connection. */
export function parseRaw(answer: string): { status: number; headers: string; json: Record<string, unknown> } {
  const [head = '', body = ''] = answer.split('\r\n\r\n');
  const json = /problem\+json/.test(head) ? (JSON.parse(body) as Record<string, unknown>) : {};
  return { status: Number(head.split(' ')[1]), headers: head.toLowerCase(), json };
}
