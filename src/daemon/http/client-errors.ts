// SPDX-License-Identifier: Apache-2.0
/** What goes wrong before there is a request: Node's HTTP parser and its clocks report it of a connection. */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import type { ApiResponse } from '../../api/operation.ts';
import { VnicError } from '../../errors.ts';
import { failure, headerTooLarge, rawAnswer } from './answers.ts';
import { channelOf, openExchangeOn, remoteText } from './exchange.ts';

function describe(error: NodeJS.ErrnoException & { reason?: string }): VnicError {
  switch (error.code) {
    case 'HPE_HEADER_OVERFLOW':
      return headerTooLarge('more bytes than are read');
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new VnicError('too_large', 'The chunk extensions of the body are too large.', {
        remedy: 'Send the body without chunk extensions.',
      });
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new VnicError('request_timeout', 'The request did not arrive in time.', {
        remedy: 'Send it in one go, or raise daemon.limits.request_timeout_ms.',
      });
    default:
      return new VnicError('usage', `The request is no valid HTTP: ${error.reason ?? error.message}.`, {
        remedy: 'Send HTTP/1.1 as RFC 9112 describes it, to an http or https address as configured.',
      });
  }
}

/**
 * Answers such connections and closes them. The rest of what the client sends is read and thrown away for a while:
 * closing before that resets the connection, and the client would not see the answer.
 */
export function answerClientErrors(server: Server, log: Logger, lingerMs: number): void {
  const refused = new WeakSet<Socket>();
  server.on('clientError', (error: NodeJS.ErrnoException, duplex) => {
    const socket = duplex as Socket;
    // The parser repeats itself for everything that still comes in.
    if (refused.has(socket)) return;
    refused.add(socket);
    const open = openExchangeOn(socket);
    const isAnswering = open !== null && (open.request.complete || open.response.headersSent);
    if (error.code === 'ECONNRESET' || !socket.writable || isAnswering) {
      socket.destroy();
      return;
    }
    const answer = failure(describe(error));
    const remote = remoteText(channelOf(socket));
    if (open === null) log.info({ status: answer.status, remote, reason: error.code }, 'request refused');
    else open.socketStatus = answer.status;
    finish(socket, answer);
  });
  // Without a listener Node closes the connection without a word.
  server.on('connect', ({ url }, duplex) => {
    const socket = duplex as Socket;
    const answer = failure(
      new VnicError('method_not_allowed', `CONNECT to ${url} is not possible: this is no proxy.`, {
        remedy: 'Ask for what /api/v1/reference names.',
      }),
    );
    log.info({ status: answer.status, remote: remoteText(channelOf(socket)), reason: 'CONNECT' }, 'request refused');
    socket.on('error', () => socket.destroy()).resume();
    finish(socket, answer);
  });

  function finish(socket: Socket, answer: ApiResponse): void {
    socket.end(rawAnswer(answer));
    setTimeout(() => socket.destroy(), lingerMs).unref();
  }
}
