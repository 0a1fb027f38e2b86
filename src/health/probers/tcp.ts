// SPDX-License-Identifier: Apache-2.0
/** TCP: the connection is made. HTTP: the answer to a GET has the status asked for; redirects are not followed. */
import { request as httpRequest } from 'node:http';
import type { HttpExpectation } from '../../steering/azs.ts';
import type { Attempt, Settle } from '../run-probe.ts';
import { type SocketPlace, settleError, streamSocket } from './sockets.ts';

export interface Endpoint {
  address: string;
  port: number;
}

export function attemptTcp(place: SocketPlace, { address, port }: Endpoint, settle: Settle): Attempt {
  const socket = streamSocket(place);
  // Stays to the end: an error after the result must not go uncaught.
  socket.on('error', (error) => settleError(settle, error));
  socket.once('connect', () => settle.answered());
  socket.connect({ host: address, port });
  return {
    // A reset, so that ten probes a second do not leave hundreds of sockets in TIME_WAIT.
    close: () => (socket.connecting ? socket.destroy() : socket.resetAndDestroy()),
  };
}

export function attemptHttp(
  place: SocketPlace,
  { address, port }: Endpoint,
  { path, status: [first, last] }: HttpExpectation,
  settle: Settle,
): Attempt {
  const socket = streamSocket(place);
  socket.on('error', (error) => settleError(settle, error));
  socket.connect({ host: address, port });
  const request = httpRequest({
    createConnection: () => socket,
    host: address,
    port,
    path,
    headers: { 'user-agent': 'vnic-probe', connection: 'close' },
  });
  request.on('error', (error) => settleError(settle, error));
  request.on('response', (response) => {
    response.on('error', () => undefined);
    const { statusCode = 0 } = response;
    if (statusCode >= first && statusCode <= last) settle.answered();
    else settle.failed(`status ${statusCode}`);
  });
  request.end();
  return {
    close: () => {
      request.destroy();
      socket.destroy();
    },
  };
}
