// SPDX-License-Identifier: Apache-2.0
/** HTTP on the Unix socket and, if configured, on TCP: everything between a connection and the engine. */

import type { Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Logger } from 'pino';
import { encodeJson } from '../../api/bodies.ts';
import { openApiDocument } from '../../api/openapi.ts';
import type { DaemonConfig, ListenAddress } from '../../config/daemon.ts';
import { VnicError } from '../../errors.ts';
import type { FleetView } from '../../fleet/node/fleet-node.ts';
import type { Native } from '../../loader/ffi/index.ts';
import { type PeerCredentials, peerCredentials, socketFd } from '../../loader/peer-credentials.ts';
import type { Engine } from '../engine.ts';
import type { EventLog } from '../event-log.ts';
import type { Metrics } from '../metrics.ts';
import type { AccessRules } from './access.ts';
import { createApp, type Page, type Readiness } from './app.ts';
import { answerClientErrors } from './client-errors.ts';
import { EventStreams } from './events.ts';
import { remoteText, setChannel } from './exchange.ts';
import { defaultTimings, type HttpTimings, OpenRequests, RateLimit } from './limits.ts';
import { Connections, type HttpListener, listenOnTcp, makeListener, readCertificate } from './listeners.ts';
import { livePage } from './live-page.ts';
import { referencePage } from './reference-page.ts';
import { groupId, listenOnUnixSocket } from './unix-socket.ts';

export interface HttpServerOptions {
  engine: Engine;
  events: EventLog;
  config: DaemonConfig;
  isReady: () => Readiness;
  native: Native;
  log: Logger;
  /** Of the product, for the OpenAPI document. */
  version: string;
  metrics: Metrics;
  /** Throws `not_found` where the machine belongs to no fleet. */
  fleet: () => FleetView;
  timings?: Partial<HttpTimings>;
}

export class HttpServer {
  readonly #options: HttpServerOptions;
  readonly #log: Logger;
  readonly #timings: HttpTimings;
  readonly #streams: EventStreams;
  readonly #rateLimit: RateLimit;
  readonly #connections = new Connections();
  readonly #app: ReturnType<typeof createApp>;
  #config: DaemonConfig;
  #socketGroup: AccessRules['socketGroup'] = null;
  #unix: HttpListener | null = null;
  #tcp: HttpListener | null = null;
  #closing: Promise<void> | null = null;

  constructor(options: HttpServerOptions) {
    const { engine, events, config, isReady, log, version, metrics, fleet } = options;
    this.#options = options;
    this.#log = log;
    this.#config = config;
    this.#timings = { ...defaultTimings, ...options.timings };
    this.#streams = new EventStreams(events, () => this.#config, this.#timings.heartbeatMs);
    this.#rateLimit = new RateLimit(() => this.#config.limits);
    let document: Uint8Array | null = null;
    let page: Page | null = null;
    this.#app = createApp({
      engine,
      config: () => this.#config,
      accessRules: () => this.#accessRules(),
      isReady: () => (this.#closing === null ? isReady() : { ready: false, reason: 'it is stopping' }),
      log,
      metrics,
      fleet,
      streams: this.#streams,
      openRequests: new OpenRequests(() => this.#config.limits),
      rateLimit: this.#rateLimit.handler,
      document: () => (document ??= encodeJson(openApiDocument(version))),
      reference: () => (page ??= referencePage(openApiDocument(version))),
      livePage: livePage(),
    });
  }

  /** Null: no TCP listener. The port is the real one where 0 was asked for. */
  get tcpAddress(): ListenAddress | null {
    const address = this.#tcp?.address() as AddressInfo | null | undefined;
    return address == null ? null : { host: address.address, port: address.port };
  }

  /** Throws `conflict`, `not_permitted`, `invalid_config`; nothing listens then. */
  async listen(): Promise<void> {
    const { socket, listen, tls, limits } = this.#config;
    const { group } = socket;
    this.#socketGroup = group === null ? null : { name: group, gid: groupId(group) };
    const certificate = listen === null || tls === null ? null : readCertificate(tls);
    const make = (secure: typeof certificate): HttpListener => {
      const server = makeListener(this.#app, limits.requestTimeoutMs, this.#timings, secure);
      this.#connections.watch(server);
      answerClientErrors(server, this.#log, this.#timings.lingerMs);
      return server;
    };
    const unix = make(null);
    unix.on('connection', (connection: Socket) =>
      setChannel(connection, { kind: 'unix', peer: this.#peerOf(connection) }),
    );
    await listenOnUnixSocket(unix, socket, this.#socketGroup?.gid ?? null);
    this.#watchErrors(unix);
    this.#unix = unix;
    if (listen === null) return;
    const tcp = make(certificate);
    tcp.maxConnections = limits.connections;
    tcp.on('drop', (dropped) => {
      const limit = this.#config.limits.connections;
      this.#log.warn({ remote: dropped?.remoteAddress, limit }, 'connection refused: too many are open');
    });
    tcp.on('tlsClientError', (error: NodeJS.ErrnoException, connection: Socket) => {
      this.#log.debug(
        { remote: connection.remoteAddress, reason: error.code ?? error.message },
        'TLS handshake failed',
      );
    });
    try {
      await listenOnTcp(tcp, listen);
    } catch (error) {
      await this.close(0);
      throw error;
    }
    this.#watchErrors(tcp);
    this.#tcp = tcp;
  }

  /**
   * Takes over tokens, limits and certificates. Connections stay; event streams end whose token does not count any more.
   * Returns the settings that differ and take a restart. Throws `invalid_config`; everything stays as it was then.
   */
  reload(config: DaemonConfig): string[] {
    const before = this.#config;
    const { listen, tls, socket } = config;
    const restart = [
      ...(isSame(listen, before.listen) ? [] : ['daemon.listen']),
      ...(isSame(socket, before.socket) ? [] : ['daemon.socket']),
      ...((tls === null) === (before.tls === null) ? [] : ['daemon.tls']),
    ];
    if (tls !== null) this.#tcp?.setSecureContext?.(readCertificate(tls));
    this.#config = { ...config, listen: before.listen, socket: before.socket, tls: before.tls === null ? null : tls };
    const { requestTimeoutMs, connections } = config.limits;
    for (const server of [this.#unix, this.#tcp]) {
      if (server === null) continue;
      server.headersTimeout = Math.min(this.#timings.headersTimeoutMs, requestTimeoutMs);
      server.requestTimeout = requestTimeoutMs;
    }
    if (this.#tcp !== null) this.#tcp.maxConnections = connections;
    this.#streams.recheckTokens();
    return restart;
  }

  /** Takes no more connections, lets requests finish for at most that long, then cuts off what is left. */
  close(graceMs: number): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    const servers = [this.#unix, this.#tcp].filter((server) => server !== null);
    const ended = servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    this.#streams.close();
    // A connection that becomes idle meanwhile would wait for another request.
    const sweep = setInterval(() => {
      for (const server of servers) server.closeIdleConnections();
    }, SWEEP_MS);
    const grace = setTimeout(() => this.#connections.destroyAll(), graceMs);
    await Promise.all(ended);
    clearInterval(sweep);
    clearTimeout(grace);
    this.#rateLimit.close();
  }

  #accessRules(): AccessRules {
    return { ownUid: process.geteuid!(), socketGroup: this.#socketGroup, tokens: this.#config.tokens };
  }

  /** Null, with a line in the log, if the kernel does not say. */
  #peerOf(connection: Socket): PeerCredentials | null {
    const fd = socketFd(connection);
    if (fd === null) return null;
    try {
      return peerCredentials(this.#options.native, fd);
    } catch (error) {
      if (!(error instanceof VnicError)) throw error;
      this.#log.warn(
        { err: error, remote: remoteText({ kind: 'unix', peer: null }) },
        'credentials of a peer are not known',
      );
      return null;
    }
  }

  /** Such as no descriptors left: connections wait until there are. */
  #watchErrors(server: Server): void {
    server.on('error', (error) => this.#log.error({ err: error }, 'listener'));
  }
}

const SWEEP_MS = 20;

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
