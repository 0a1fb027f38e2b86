// SPDX-License-Identifier: Apache-2.0
/** BFD peers of an AZ: from the user form to the model, and back. */
import { VnicError } from '../errors.ts';
import { VnicLimits } from '../maps/generated/abi.ts';
import type { AzBfd, AzConfig } from '../steering/azs.ts';
import { formatAddress, parseAddress } from '../steering/rules/prefix.ts';
import type { Path, ProblemList } from '../steering/rules/problems.ts';
import type { BfdInput } from './schema.ts';

const DEFAULT_QUORUM = 1;
const DEFAULT_INTERVAL_MS = 50;
const DEFAULT_DETECT_MULT = 3;

/** What fits of it may be missing fields: their problems are recorded already. */
export function readBfd(user: Partial<BfdInput>, path: Path, problems: ProblemList): AzBfd | undefined {
  if (user.peers === undefined) return undefined;
  const before = problems.problems.length;
  const peers = readPeers(user.peers, [...path, 'peers'], problems);
  const quorum = user.quorum ?? DEFAULT_QUORUM;
  if (quorum > peers.length && problems.problems.length === before) {
    const named = peers.length === 1 ? 'the one peer' : `the ${peers.length} peers`;
    problems.add([...path, 'quorum'], `quorum ${quorum} is more than ${named}`, 'Name more peers, or lower it.');
  }
  if (problems.problems.length > before) return undefined;
  return {
    peers,
    quorum,
    intervalMs: user.interval_ms ?? DEFAULT_INTERVAL_MS,
    detectMult: user.detect_mult ?? DEFAULT_DETECT_MULT,
    multihop: user.multihop ?? false,
  };
}

function readPeers(texts: readonly string[], path: Path, problems: ProblemList): string[] {
  const peers = new Set<string>();
  for (const [index, text] of texts.entries()) {
    const where = [...path, index];
    const peer = problems.attempt(where, () => parsePeer(text));
    if (peer === undefined) continue;
    if (peers.has(peer)) problems.add(where, `${peer} is named twice`, 'Name each peer once.');
    peers.add(peer);
  }
  return [...peers];
}

function parsePeer(text: string): string {
  let address: Uint8Array;
  try {
    address = parseAddress(text);
  } catch (cause) {
    throw new VnicError('invalid_config', `${JSON.stringify(text)} is not an IPv4 or IPv6 address`, {
      remedy: 'Write "10.1.0.2" or "fd00:a::2", without port or prefix length.',
      cause,
    });
  }
  const isGroup = address[0] === 0xff || (isIpv4(address) && address[12]! >= 224);
  if (isGroup || isUnspecified(address)) {
    throw new VnicError('invalid_config', `${text} is not the address of one host`, {
      remedy: 'Name the address that the peer sends from.',
    });
  }
  return formatAddress(address);
}

const isIpv4 = (address: Uint8Array): boolean =>
  address.subarray(0, 10).every((byte) => byte === 0) && address[10] === 0xff && address[11] === 0xff;

const isUnspecified = (address: Uint8Array): boolean =>
  address.subarray(isIpv4(address) ? 12 : 0).every((byte) => byte === 0);

/** A session belongs to one AZ, and a device has room for so many. */
export function readBfdConflicts(
  placed: readonly { readonly az: AzConfig; readonly path: Path }[],
  path: Path,
  problems: ProblemList,
): void {
  const owners = new Map<string, string>();
  let count = 0;
  for (const { az, path: azPath } of placed) {
    for (const [index, peer] of (az.bfd?.peers ?? []).entries()) {
      count++;
      const owner = owners.get(peer);
      if (owner === undefined) owners.set(peer, az.name);
      else if (owner !== az.name) {
        problems.add(
          [...azPath, 'bfd', 'peers', index],
          `${peer} is a peer of AZ ${owner} already`,
          'Name each peer in one AZ.',
        );
      }
    }
  }
  if (count > VnicLimits.maxBfdSessions) {
    problems.add(
      path,
      `${count} BFD peers, but a device has room for ${VnicLimits.maxBfdSessions} sessions`,
      'Name fewer peers.',
    );
  }
}

export function formatBfd({ peers, quorum, intervalMs, detectMult, multihop }: AzBfd): BfdInput {
  return { peers: [...peers], quorum, interval_ms: intervalMs, detect_mult: detectMult, multihop };
}
