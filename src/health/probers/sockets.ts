// SPDX-License-Identifier: Apache-2.0
/**
 * Sockets of a device's network namespace. Node makes its own sockets later than connect() is called, when the thread is
 * back in its namespace; a socket stays in the one that it was made in. So they are made here and handed to Node.
 */
import dgram from 'node:dgram';
import net from 'node:net';
import { VnicError } from '../../errors.ts';
import { Fd } from '../../loader/fd.ts';
import type { Native } from '../../loader/ffi/index.ts';
import { inNetns } from '../../loader/netns.ts';
import { Libc } from '../../maps/generated/host.ts';
import type { Settle } from '../run-probe.ts';

/** linux/socket.h, the same on every architecture. */
const AF_INET6 = 10;
/** asm-generic/socket.h; x86-64 and arm64. */
const SOCK_STREAM = 1;

export type Family = 4 | 6;

export interface SocketPlace {
  native: Native;
  /** Null: that of the process. */
  netns: string | null;
  family: Family;
}

export function familyOf(address: string): Family {
  return address.includes(':') ? 6 : 4;
}

/** Throws VnicError `not_permitted`, `kernel_refused`, `not_found` (the namespace is gone). */
export function openSocket({ native, netns, family }: SocketPlace, type: number, protocol: number): Fd {
  const domain = family === 4 ? Libc.afInet : AF_INET6;
  return inNetns(native, netns, () => {
    const fd = native.libc.socket(domain, type | Libc.sockCloexec, protocol);
    return new Fd(native, native.check(fd, 'socket'));
  });
}

/** Not connected yet. */
export function streamSocket(place: SocketPlace): net.Socket {
  const fd = openSocket(place, SOCK_STREAM, 0);
  return handOver(fd, () => new net.Socket({ fd: fd.value, readable: true, writable: true }));
}

/** Not connected yet. Also for ping sockets, which look like it. */
export function datagramSocket(place: SocketPlace, protocol: number): dgram.Socket {
  const fd = openSocket(place, Libc.sockDgram, protocol);
  return handOver(fd, () => {
    const socket = dgram.createSocket(place.family === 4 ? 'udp4' : 'udp6');
    socket.bind({ fd: fd.value });
    return socket;
  });
}

/** Whoever made it of the descriptor closes it. */
function handOver<T>(fd: Fd, make: () => T): T {
  try {
    const made = make();
    fd.release();
    return made;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** Errors that say something of this machine and nothing of the target. */
const ownErrors = new Set([
  'EACCES',
  'EADDRNOTAVAIL',
  'EAFNOSUPPORT',
  'EAGAIN',
  'EMFILE',
  'ENFILE',
  'ENOBUFS',
  'ENOMEM',
  'EPERM',
]);

const errorTexts: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EHOSTUNREACH: 'host unreachable',
  ENETUNREACH: 'network unreachable',
  ENETDOWN: 'network down',
  ETIMEDOUT: 'timed out',
};

/** Settles an attempt with an error of a socket. */
export function settleError(settle: Settle, error: unknown): void {
  const code = codeOf(error);
  if (code !== null && ownErrors.has(code)) settle.impossible((error as Error).message);
  else settle.failed(code === null ? String(error) : (errorTexts[code] ?? code));
}

function codeOf(error: unknown): string | null {
  const code = error instanceof VnicError ? error.details?.['errno'] : (error as NodeJS.ErrnoException | null)?.code;
  return typeof code === 'string' ? code : null;
}
