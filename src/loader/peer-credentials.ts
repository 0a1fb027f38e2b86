// SPDX-License-Identifier: Apache-2.0
/** Who is at the other end of a Unix socket, as the kernel says (unix(7), SO_PEERCRED). */
import type { Socket } from 'node:net';
import { VnicError } from '../errors.ts';
import { hostLittleEndian } from '../maps/codec.ts';
import { Libc, Ucred } from '../maps/generated/host.ts';
import { errnoName, type Native } from './ffi/index.ts';

/** All three are those of the moment at which the peer connected: it may have changed them, and may have ended. */
export interface PeerCredentials {
  /** 0 for a process that this process's PID namespace does not show. */
  pid: number;
  /** Effective user id. */
  uid: number;
  /** Effective group id first, then the supplementary groups, each once. */
  gids: number[];
}

const U32_BYTES = 4;
/** Room for the groups at first; the kernel says how much it needs when that is too little. */
const FIRST_GROUPS = 32;
/** What the kernel gives for a socket without a peer: `(uid_t)-1` (net/core/sock.c, cred_to_ucred). */
const NO_ID = 0xffff_ffff;

function noPeer(fd: number, reason: string): VnicError {
  return new VnicError('failed', `Descriptor ${fd} is no connected Unix socket: ${reason}.`, {
    remedy: 'Ask for the credentials of an accepted connection on a Unix socket.',
  });
}

/** Reads a socket option into `value`; returns errno and the length in bytes that the kernel gave or asks for. */
function readOption(native: Native, fd: number, option: number, value: Uint8Array): { errno: string; length: number } {
  const length = native.memory.alloc(U32_BYTES);
  const lengthView = new DataView(length.buffer);
  lengthView.setUint32(0, value.length, hostLittleEndian);
  const result = native.libc.getsockopt(fd, Libc.solSocket, option, value, length);
  return {
    errno: result === 0 ? '' : errnoName(native.errno()),
    length: lengthView.getUint32(0, hostLittleEndian),
  };
}

/** SO_PEERGROUPS: the supplementary groups only (Linux 4.13). */
function peerGroups(native: Native, fd: number): number[] {
  let groups = native.memory.alloc(FIRST_GROUPS * U32_BYTES);
  let answer = readOption(native, fd, Libc.soPeergroups, groups);
  if (answer.errno === 'ERANGE') {
    groups = native.memory.alloc(answer.length);
    answer = readOption(native, fd, Libc.soPeergroups, groups);
  }
  if (answer.errno !== '') throw noPeer(fd, `SO_PEERGROUPS failed with ${answer.errno}`);
  const view = new DataView(groups.buffer);
  return Array.from({ length: answer.length / U32_BYTES }, (_, index) =>
    view.getUint32(index * U32_BYTES, hostLittleEndian),
  );
}

/**
 * The process that connected to the Unix socket `fd`, or that listens where `fd` connected to.
 * Throws VnicError `failed` for a descriptor that is no connected Unix socket.
 */
export function peerCredentials(native: Native, fd: number): PeerCredentials {
  const listening = native.memory.alloc(U32_BYTES);
  const accepting = readOption(native, fd, Libc.soAcceptconn, listening);
  if (accepting.errno !== '') throw noPeer(fd, accepting.errno);
  // A listening socket answers with the credentials of its own process.
  if (listening.some((byte) => byte !== 0)) throw noPeer(fd, 'it listens');

  const bytes = native.memory.alloc(Ucred.size);
  const answer = readOption(native, fd, Libc.soPeercred, bytes);
  if (answer.errno !== '') throw noPeer(fd, `SO_PEERCRED failed with ${answer.errno}`);
  const { pid, uid, gid } = Ucred.decode(bytes);
  if (uid === NO_ID) throw noPeer(fd, 'it has no peer');
  return { pid, uid, gids: [...new Set([gid, ...peerGroups(native, fd)])] };
}

/**
 * The descriptor of a Node socket, or null when it is closed or not open yet: ask when the connection is accepted, since
 * Node closes it once the peer has ended. It stays the socket's own: only to ask about it, never to close it.
 */
export function socketFd(socket: Socket): number | null {
  // Node has no public way to a socket's descriptor; `_handle.fd` has been there since its first releases.
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: unknown } | null };
  const fd = handle?.fd;
  return typeof fd === 'number' && fd >= 0 ? fd : null;
}
