// SPDX-License-Identifier: Apache-2.0
/** Who may do what. Pure: what is known of a request in, its token or an error out. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { Access } from '../../api/operation.ts';
import { isLoopback, type TokenConfig } from '../../config/daemon.ts';
import { VnicError } from '../../errors.ts';
import type { PeerCredentials } from '../../loader/peer-credentials.ts';

/** How a connection came in. */
export type Channel =
  /** `peer` is null if the kernel did not say who it is. */
  { kind: 'unix'; peer: PeerCredentials | null } | { kind: 'tcp'; remoteAddress: string; tls: boolean };

/** `open`: whoever can connect. */
export type AccessNeeded = Access | 'open';

export interface Attempt {
  channel: Channel;
  access: AccessNeeded;
  authorization: string | undefined;
  host: string | undefined;
  origin: string | undefined;
}

export interface AccessRules {
  ownUid: number;
  /** Whose members may write over the Unix socket. */
  socketGroup: { name: string; gid: number } | null;
  tokens: readonly TokenConfig[];
}

/**
 * Returns the token that came with the request, null where none was needed.
 * Throws `unauthorized` (no token, or one that is not known) and `not_permitted`.
 */
export function decide(attempt: Attempt, rules: AccessRules): TokenConfig | null {
  const { channel, access, authorization, host, origin } = attempt;
  if (access === 'open') return null;
  const isLocal = channel.kind === 'unix' || isLoopback(channel.remoteAddress);
  if (channel.kind === 'tcp' && isLocal) requireOwnName(host);
  if (channel.kind === 'tcp' && !isLocal && !channel.tls) {
    throw new VnicError('not_permitted', 'Off loopback only TLS is served.', {
      remedy: 'Configure daemon.tls, and use https.',
    });
  }
  if (access === 'write') requireSameOrigin(origin, host);
  const token = authorization === undefined ? null : findToken(authorization, rules.tokens);
  if (channel.kind === 'unix') {
    if (access === 'write') requirePeer(channel.peer, rules);
    return token;
  }
  if (token === null && (access === 'write' || !isLocal)) {
    throw new VnicError('unauthorized', `${access === 'write' ? 'Writing' : 'Reading'} takes a bearer token here.`, {
      remedy: `Send "Authorization: Bearer TOKEN" with a token of scope ${access}, or use the Unix socket.`,
    });
  }
  if (access === 'write' && token?.scope !== 'write') {
    throw new VnicError('not_permitted', `The token ${token?.name} is for reading; this writes.`, {
      remedy: 'Use a token of scope write.',
    });
  }
  return token;
}

/** Throws `not_permitted` for a peer that may not write. */
function requirePeer(peer: PeerCredentials | null, { ownUid, socketGroup }: AccessRules): void {
  if (peer !== null && (peer.uid === 0 || peer.uid === ownUid)) return;
  if (peer !== null && socketGroup !== null && peer.gids.includes(socketGroup.gid)) return;
  const who = peer === null ? 'the caller is not known' : `uid ${peer.uid} is not`;
  const group = socketGroup === null ? '' : `, or be in the group ${socketGroup.name}`;
  throw new VnicError('not_permitted', `Writing takes root or the daemon's own user${group && ` or group`}: ${who}.`, {
    remedy: `Run it as root (sudo)${group}${socketGroup === null ? ', or configure daemon.socket.group' : ''}.`,
  });
}

/**
 * A page of another site can make its own name point to 127.0.0.1 (DNS rebinding); then its browser sends that name.
 * Throws `not_permitted`.
 */
function requireOwnName(host: string | undefined): void {
  // Only HTTP/1.0 comes without, and no browser speaks that any more.
  if (host === undefined) return;
  const name = hostName(host);
  if (name !== null && (isIP(name) !== 0 || name.toLowerCase() === 'localhost')) return;
  throw new VnicError('not_permitted', `The Host header ${JSON.stringify(host)} is no IP address and not localhost.`, {
    remedy: 'Use the address itself, such as http://127.0.0.1:9090.',
  });
}

/** The name or address of a Host header, without brackets and port; null if it is not well-formed. */
function hostName(host: string): string | null {
  const match = /^(?:\[([\da-f:.]+)\]|([^:[\]/@\s]+))(?::\d{0,5})?$/i.exec(host);
  return match?.[1] ?? match?.[2] ?? null;
}

/** Browsers name the site that a write comes from (RFC 6454). Throws `not_permitted` if it is another one. */
function requireSameOrigin(origin: string | undefined, host: string | undefined): void {
  if (origin === undefined || isSameOrigin(origin, host ?? '')) return;
  throw new VnicError('not_permitted', `A page of ${JSON.stringify(origin)} may not write here.`, {
    remedy: 'Write from a page of this daemon, or without a browser.',
  });
}

function isSameOrigin(origin: string, host: string): boolean {
  // By the origin's own scheme, whose default port may be left out on either side.
  const [scheme = ''] = origin.split('//');
  const from = URL.parse(origin);
  const to = URL.parse(`${scheme}//${host}`);
  return from !== null && to !== null && from.host !== '' && from.host === to.host;
}

/** Throws `unauthorized` for anything but a known token. */
function findToken(authorization: string, tokens: readonly TokenConfig[]): TokenConfig {
  const value = /^Bearer +([\w.~+/-]+=*) *$/i.exec(authorization)?.[1];
  const digest = createHash('sha256')
    .update(value ?? '')
    .digest();
  // All of them are compared, so that the time says nothing about which one was nearly right.
  const [found] = tokens.filter(({ sha256 }) => timingSafeEqual(Buffer.from(sha256, 'hex'), digest));
  if (value !== undefined && found !== undefined) return found;
  throw new VnicError('unauthorized', 'The Authorization header has no bearer token that is known.', {
    remedy: 'Send "Authorization: Bearer TOKEN" with a token whose SHA-256 stands in daemon.tokens.',
  });
}
