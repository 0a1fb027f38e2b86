// SPDX-License-Identifier: Apache-2.0
/** Whom a command talks to: the daemon where one answers on its socket, else the operations in this process. */
import { statSync } from 'node:fs';
import { connect } from 'node:net';
import { ApiClient, type Transport } from '../api/client.ts';
import { VnicError } from '../errors.ts';

export const DEFAULT_SOCKET = '/run/vnic/vnicd.sock';

/** Where the daemon is looked for. @param named by the user, on the command line */
export function socketPath(named: string | undefined, { VNIC_SOCKET }: NodeJS.ProcessEnv): string {
  return named ?? (VNIC_SOCKET || DEFAULT_SOCKET);
}

/** @param named the socket that the user named on the command line; it has to answer then */
export async function openClient(named: string | undefined, environment: NodeJS.ProcessEnv): Promise<ApiClient> {
  return new ApiClient(await chooseTransport(named, environment));
}

async function chooseTransport(named: string | undefined, environment: NodeJS.ProcessEnv): Promise<Transport> {
  const socket = socketPath(named, environment);
  const errno = await tryToConnect(socket);
  // One that may not be used is the transport's to complain of, when it is used.
  if (errno === null || (errno === 'EACCES' && isSeen(socket))) {
    const { SocketTransport } = await import('../api/transports.ts');
    return new SocketTransport(socket);
  }
  if (named !== undefined) throw noDaemon(socket, errno, 'leave --socket out to work without a daemon');
  const [{ LocalTransport }, { looseController, openController, stateFolderOf }, { requireFreeState }] =
    await Promise.all([import('../api/local.ts'), import('../app/environment.ts'), import('../app/state-lock.ts')]);
  return new LocalTransport({
    openController: (withoutRights) => (withoutRights ? looseController(environment) : openController(environment)),
    requireNoDaemon: ({ native }) => requireFreeState(native, stateFolderOf(environment), socket),
  });
}

/** @param otherwise what else the user can do */
export function noDaemon(socket: string, errno: string, otherwise?: string): VnicError {
  return new VnicError('daemon_unreachable', `No daemon answers at ${socket} (${errno}).`, {
    remedy: `Start it with: vnicctl serve${otherwise === undefined ? '' : `; or ${otherwise}`}.`,
  });
}

/** False for what does not exist, and for what is in a folder that this user may not look into. */
function isSeen(file: string): boolean {
  try {
    return statSync(file, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

/** The errno that connecting failed with, or null. */
function tryToConnect(socket: string): Promise<string | null> {
  const { promise, resolve } = Promise.withResolvers<string | null>();
  const connection = connect(socket);
  connection.on('connect', () => {
    connection.destroy();
    resolve(null);
  });
  connection.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'unknown'));
  return promise;
}
