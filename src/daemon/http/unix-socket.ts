// SPDX-License-Identifier: Apache-2.0
/** The Unix socket as a file: whose it is, and whether somebody still listens on the one that is there. */
import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, type Stats, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import path from 'node:path';
import type { DaemonConfig } from '../../config/daemon.ts';
import { VnicError } from '../../errors.ts';

const GROUP_FILE = '/etc/group';

/** In a text as group(5) describes it; null if the group is not there. */
export function findGroupId(text: string, name: string): number | null {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name}:`));
  const gid = line?.split(':')[2] ?? '';
  return /^\d+$/.test(gid) ? Number(gid) : null;
}

/** A number stands for itself: not every group has to be in the file. Throws `invalid_config`. */
export function groupId(name: string): number {
  if (/^\d+$/.test(name)) return Number(name);
  const gid = findGroupId(readFileSync(GROUP_FILE, 'utf8'), name);
  if (gid !== null) return gid;
  throw new VnicError('invalid_config', `daemon.socket.group: there is no group ${name} in ${GROUP_FILE}.`, {
    remedy: `Make it (groupadd --system ${name}), or name another one.`,
  });
}

/**
 * Listens on the socket, which nobody but root can open until its mode and group are right.
 * Throws `conflict` (somebody listens there, or it is no socket), `not_permitted`, `failed`.
 */
export async function listenOnUnixSocket(
  server: Server,
  { path: file, mode }: DaemonConfig['socket'],
  gid: number | null,
): Promise<void> {
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o755 });
    await removeStale(file);
    await listenHidden(server, file);
    if (gid !== null) chownSync(file, -1, gid);
    chmodSync(file, mode);
  } catch (error) {
    server.close();
    throw error instanceof VnicError ? error : socketFailure(file, error as NodeJS.ErrnoException);
  }
}

function listenHidden(server: Server, file: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  // bind(2) makes the file within the call of listen().
  const umask = process.umask(0o777);
  try {
    server.listen(file, () => {
      server.removeListener('error', reject);
      resolve();
    });
  } finally {
    process.umask(umask);
  }
  return promise;
}

function socketFailure(file: string, error: NodeJS.ErrnoException): VnicError {
  if (error.code === 'EADDRINUSE') return inUse(file, error);
  if (error.code === 'EACCES' || error.code === 'EPERM') {
    return new VnicError('not_permitted', `The socket ${file} cannot be made (${error.syscall}: ${error.code}).`, {
      remedy: 'Run it as root (sudo), or configure daemon.socket.path in a folder of yours.',
      cause: error,
    });
  }
  return new VnicError('failed', `The socket ${file} cannot be made: ${error.message}.`, {
    remedy: 'Configure daemon.socket.path in a folder that can be written to, with at most 107 bytes in all.',
    cause: error,
  });
}

function inUse(file: string, cause?: unknown): VnicError {
  return new VnicError('conflict', `Another daemon answers on ${file}.`, {
    remedy: 'Stop it, or choose another socket with daemon.socket.path.',
    cause,
  });
}

function lookAt(file: string): Stats | null {
  return lstatSync(file, { throwIfNoEntry: false }) ?? null;
}

/** Removes what a daemon that died has left. Throws `conflict`. */
async function removeStale(file: string): Promise<void> {
  const found = lookAt(file);
  if (found === null) return;
  if (!found.isSocket()) {
    throw new VnicError('conflict', `${file} is there and is no socket.`, {
      remedy: 'Move it away, or choose another socket with daemon.socket.path.',
    });
  }
  if (await isAnswered(file)) throw inUse(file);
  // Another daemon that starts at the same time may have replaced it meanwhile.
  if (lookAt(file)?.ino === found.ino) unlinkSync(file);
}

function isAnswered(file: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const socket = connect(file);
  socket.once('connect', () => {
    socket.destroy();
    resolve(true);
  });
  socket.once('error', (error: NodeJS.ErrnoException) => {
    socket.destroy();
    if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
    // EAGAIN: so many wait there that no more fit.
    else if (error.code === 'EAGAIN') resolve(true);
    else reject(error);
  });
  return promise;
}
