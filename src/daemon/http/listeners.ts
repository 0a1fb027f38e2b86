// SPDX-License-Identifier: Apache-2.0
/** The servers below the application: one on the Unix socket, one on TCP with or without TLS. */
import { readFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { createSecureContext } from 'node:tls';
import { type DaemonConfig, formatListen, type ListenAddress } from '../../config/daemon.ts';
import { VnicError } from '../../errors.ts';
import { type HttpTimings, MAX_HEADER_BYTES, MAX_HEADER_FIELDS } from './limits.ts';

export interface Certificate {
  cert: Buffer;
  key: Buffer;
}

/** Throws `invalid_config` for files that cannot be read or do not belong together. */
export function readCertificate({ cert, key }: NonNullable<DaemonConfig['tls']>): Certificate {
  try {
    const certificate = { cert: readFileSync(cert), key: readFileSync(key) };
    createSecureContext(certificate);
    return certificate;
  } catch (cause) {
    throw new VnicError('invalid_config', `daemon.tls cannot be used: ${(cause as Error).message}.`, {
      remedy: `Look at ${cert} and ${key}: PEM files, a certificate and its private key.`,
      cause,
    });
  }
}

/** Node has only the secure kind's own methods beside those of both. */
export type HttpListener = Server & { setSecureContext?: (certificate: Certificate) => void };

export function makeListener(
  app: RequestListener,
  requestTimeoutMs: number,
  timings: HttpTimings,
  certificate: Certificate | null,
): HttpListener {
  const options: ServerOptions = {
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: Math.min(timings.headersTimeoutMs, requestTimeoutMs),
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: timings.keepAliveTimeoutMs,
    connectionsCheckingInterval: timings.checkIntervalMs,
    // Looked at by the application, which answers with a problem object.
    requireHostHeader: false,
  };
  const server: HttpListener =
    certificate === null
      ? createServer(options, app)
      : createTlsServer(
          { ...options, ...certificate, minVersion: 'TLSv1.2', handshakeTimeout: timings.headersTimeoutMs },
          app,
        );
  // One more is kept, so that the application sees that there are too many.
  server.maxHeadersCount = MAX_HEADER_FIELDS + 1;
  server.timeout = timings.idleTimeoutMs;
  // A client that asks for leave to send its body gets it when it is known that the body will be read.
  server.on('checkContinue', app);
  server.on('checkExpectation', app);
  return server;
}

/** Throws `conflict` (the port is in use), `not_permitted`, `invalid_config`. */
export function listenOnTcp(server: Server, address: ListenAddress): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const fail = (error: NodeJS.ErrnoException): void => reject(tcpFailure(address, error));
  server.once('error', fail);
  server.listen(address.port, address.host, () => {
    server.removeListener('error', fail);
    resolve();
  });
  return promise;
}

function tcpFailure(address: ListenAddress, error: NodeJS.ErrnoException): VnicError {
  const where = formatListen(address);
  switch (error.code) {
    case 'EADDRINUSE':
      return new VnicError('conflict', `${where} is in use by another program.`, {
        remedy: `Set EXPORTER_PORT to another port or to 0 for none, or daemon.listen; "ss -ltnp sport = :${address.port}" shows the program.`,
        cause: error,
      });
    case 'EACCES':
      return new VnicError('not_permitted', `${where} takes root or CAP_NET_BIND_SERVICE.`, {
        remedy: 'Set EXPORTER_PORT to a port above 1023, or run it as root (sudo).',
        cause: error,
      });
    case 'EADDRNOTAVAIL':
      return new VnicError('invalid_config', `${address.host} is no address of this machine.`, {
        remedy: 'Set daemon.listen to an address that "ip address" shows.',
        cause: error,
      });
    default:
      return new VnicError('failed', `Nothing can listen on ${where}: ${error.message}.`, { cause: error });
  }
}

/** Every open connection, those included that have not said anything yet. */
export class Connections {
  readonly #open = new Set<Socket>();

  watch(server: Server): void {
    server.on('connection', (socket: Socket) => {
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
    });
  }

  get count(): number {
    return this.#open.size;
  }

  destroyAll(): void {
    for (const socket of this.#open) socket.destroy();
  }
}
