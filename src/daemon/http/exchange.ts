// SPDX-License-Identifier: Apache-2.0
/** A request and its answer from beginning to end: who asked, and the one line that the log has of it. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { LevelWithSilent, Logger } from 'pino';
import type { TokenConfig } from '../../config/daemon.ts';
import type { Channel } from './access.ts';

/** Asked for every few seconds by machines. */
const quietPaths = new Set(['/healthz', '/readyz', '/metrics', '/api/v1/metrics']);

const MAX_LOGGED_PATH = 1024;

export interface Exchange {
  /** Also in the answer, as X-Request-Id. */
  readonly id: string;
  readonly channel: Channel;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** That came with it and is known. */
  token: TokenConfig | null;
  /** Of the answer's body. */
  bytes: number;
  /** Given past the response, straight to the socket. */
  socketStatus: number | null;
  /** What no code was made for, to be found in the log. */
  unexpected: unknown;
}

const channels = new WeakMap<Socket, Channel>();
const exchanges = new WeakMap<IncomingMessage, Exchange>();
const latest = new WeakMap<Socket, Exchange>();

/** For sockets of which more is known than their address. */
export function setChannel(socket: Socket, channel: Channel): void {
  channels.set(socket, channel);
}

export function channelOf(socket: Socket): Channel {
  const known = channels.get(socket);
  if (known !== undefined) return known;
  const { remoteAddress = 'unknown' } = socket;
  const channel: Channel = { kind: 'tcp', remoteAddress, tls: socket instanceof TLSSocket };
  channels.set(socket, channel);
  return channel;
}

export function remoteText(channel: Channel): string {
  if (channel.kind === 'tcp') return channel.remoteAddress;
  const { peer } = channel;
  return peer === null ? 'unix' : `unix uid=${peer.uid} pid=${peer.pid}`;
}

/** Starts an exchange; its line is logged when the response is over, however it ends. */
export function beginExchange(log: Logger, request: IncomingMessage, response: ServerResponse): Exchange {
  const start = performance.now();
  const exchange: Exchange = {
    id: randomUUID(),
    channel: channelOf(request.socket),
    request,
    response,
    token: null,
    bytes: 0,
    socketStatus: null,
    unexpected: undefined,
  };
  exchanges.set(request, exchange);
  latest.set(request.socket, exchange);
  const { method, url = '' } = request;
  response.once('close', () => {
    const isAnswered = response.writableFinished;
    const status = exchange.socketStatus ?? (isAnswered || response.headersSent ? response.statusCode : null);
    log[levelOf(exchange, status)](
      {
        id: exchange.id,
        method,
        path: url.slice(0, MAX_LOGGED_PATH),
        status,
        durationMs: Math.round((performance.now() - start) * 10) / 10,
        bytes: exchange.bytes,
        remote: remoteText(exchange.channel),
        ...(exchange.token === null ? {} : { token: exchange.token.name }),
        ...(isAnswered || exchange.socketStatus !== null ? {} : { cutOff: true }),
        ...(exchange.unexpected === undefined ? {} : { err: exchange.unexpected }),
      },
      'request',
    );
  });
  return exchange;
}

function levelOf({ request, unexpected }: Exchange, status: number | null): LevelWithSilent {
  if (unexpected !== undefined) return 'error';
  const [path = ''] = (request.url ?? '').split('?');
  if (quietPaths.has(path)) return 'debug';
  return status !== null && status >= 500 ? 'warn' : 'info';
}

/** Of a request that `beginExchange` has seen. */
export function exchangeOf(request: IncomingMessage): Exchange {
  return exchanges.get(request)!;
}

/** The exchange that began last on a connection, unless it is over. */
export function openExchangeOn(socket: Socket): Exchange | null {
  const exchange = latest.get(socket);
  if (exchange === undefined) return null;
  return exchange.request.complete && exchange.response.writableFinished ? null : exchange;
}
