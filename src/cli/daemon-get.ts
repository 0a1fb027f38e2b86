// SPDX-License-Identifier: Apache-2.0
/** Routes that a daemon answers itself, over its socket. */
import { type IncomingMessage, request } from 'node:http';
import { text as readAll } from 'node:stream/consumers';
import { errorOfProblem } from '../api/error-of-problem.ts';
import { noDaemon } from './connection.ts';

/** Throws `daemon_unreachable`, and what the daemon says. */
export async function getFromDaemon(socket: string, path: string): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const outgoing = request({ socketPath: socket, path, headers: { accept: 'application/json' }, agent: false });
  outgoing.on('error', (error: NodeJS.ErrnoException) => reject(noDaemon(socket, error.code ?? error.message)));
  outgoing.on('response', resolve);
  outgoing.end();
  const response = await promise;
  const data = JSON.parse(await readAll(response)) as Record<string, unknown>;
  if ((response.statusCode ?? 500) >= 400) throw errorOfProblem(data);
  return data;
}
