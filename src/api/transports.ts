// SPDX-License-Identifier: Apache-2.0
/** Calls that reach the operations over the daemon's socket. */
import { request as httpRequest } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { VnicError } from '../errors.ts';
import type { Transport } from './client.ts';
import type { ApiRequest, ApiResponse } from './operation.ts';
import type { OperationId } from './operations/index.ts';
import { routes } from './routes.ts';

/** Long: a large rule set is loaded meanwhile. */
const ANSWER_TIMEOUT_MS = 60_000;

/** Talks HTTP over a Unix socket. */
export class SocketTransport implements Transport {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** Throws `daemon_unreachable`, `not_permitted`. */
  async call(operationId: OperationId, request: ApiRequest): Promise<ApiResponse> {
    const [method, template] = routes[operationId];
    const path = template.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(request.params[name] ?? ''));
    const query = new URLSearchParams(request.query).toString();
    return await this.#send(method, query === '' ? path : `${path}?${query}`, request);
  }

  #send(method: string, path: string, { headers, body }: ApiRequest): Promise<ApiResponse> {
    const { promise, resolve, reject } = Promise.withResolvers<ApiResponse>();
    const outgoing = httpRequest({
      socketPath: this.#socketPath,
      method: method.toUpperCase(),
      path,
      headers: { ...headers, ...(body === null ? {} : { 'content-length': String(body.length) }) },
      timeout: ANSWER_TIMEOUT_MS,
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${ANSWER_TIMEOUT_MS / 1000} s`)));
    outgoing.on('error', (error) => reject(unreachable(this.#socketPath, error)));
    outgoing.on('response', (incoming) => {
      const answerHeaders = Object.fromEntries(
        Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]),
      );
      buffer(incoming).then(
        (bytes) => resolve({ status: incoming.statusCode ?? 0, headers: answerHeaders, body: bytes }),
        (error: Error) => reject(unreachable(this.#socketPath, error)),
      );
    });
    outgoing.end(body ?? undefined);
    return promise;
  }

  close(): void {}
}

function unreachable(socketPath: string, error: NodeJS.ErrnoException): VnicError {
  if (error.code === 'EACCES') {
    return new VnicError('not_permitted', `The daemon's socket ${socketPath} may not be used by this user.`, {
      remedy: "Run it as root (sudo), or as a member of the socket's group.",
      cause: error,
    });
  }
  return new VnicError('daemon_unreachable', `The daemon at ${socketPath} cannot be reached: ${error.message}.`, {
    remedy:
      'Look whether it runs: systemctl status vnicd. What was sent may have been done: look before you repeat it.',
    cause: error,
  });
}
