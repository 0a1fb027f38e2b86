// SPDX-License-Identifier: Apache-2.0
/** BFD sessions (RFC 5880): user space says with whom, bpf/bfd.h holds them. */
import { randomInt } from 'node:crypto';
import { VnicError } from '../errors.ts';
import { VnicBfdSession, VnicBfdState, VnicControl, VnicLimits } from '../maps/generated/abi.ts';
import type { MappedArray } from '../maps/index.ts';
import type { AzConfig } from '../steering/azs.ts';
import { formatAddress, parseAddress } from '../steering/rules/prefix.ts';

/** By number, as on the wire (RFC 5880, section 4.1). */
const states = ['admin_down', 'down', 'init', 'up'] as const;
export type BfdState = (typeof states)[number];

const diagnostics = [
  'none',
  'control detection time expired',
  'echo function failed',
  'neighbor signaled session down',
  'forwarding plane reset',
  'path down',
  'concatenated path down',
  'administratively down',
  'reverse concatenated path down',
];

export interface BfdStatus {
  peer: string;
  state: BfdState;
  /** What the peer said last; null: nothing yet. */
  remoteState: BfdState | null;
  /** Why it is not up, as far as this side knows. */
  diag: string;
  remoteDiag: string;
  /** The peer took it down on purpose and is not up again: it counts neither for nor against its AZ. */
  left: boolean;
  upForMs: number | null;
  /** Since it was up last; null: it is up, or never was. */
  downForMs: number | null;
  /** How long nothing may be heard; null: the peer has not said. */
  detectMs: number | null;
  /** Null: nothing yet. */
  heardAgoMs: number | null;
  /** How long nothing had been heard when it left Up last; null: it never did. */
  lostAfterMs: number | null;
  received: bigint;
  sent: bigint;
  /** Packets of the peer that are against the protocol. */
  rejected: bigint;
}

export interface AzBfdStatus {
  az: string;
  sessions: BfdStatus[];
}

/** What is written and read of a dataplane. */
export interface BfdPorts {
  readonly bfd: MappedArray<VnicBfdSession>;
  readonly control: MappedArray<VnicControl>;
}

interface Wanted {
  readonly key: string;
  readonly peer: Uint8Array;
  /** What can change while the session stays. */
  readonly settings: Pick<VnicBfdSession, 'az' | 'minTxUs' | 'minRxUs' | 'detectMult'>;
  readonly multihop: boolean;
}

/** A session is with a peer, over one hop or several. */
function keyOf(peer: Uint8Array, multihop: boolean): string {
  return `${formatAddress(peer)}${multihop ? ' over hops' : ''}`;
}

function wantedSessions(azs: readonly AzConfig[]): Wanted[] {
  return azs.flatMap(({ bfd }, index) =>
    (bfd?.peers ?? []).map((text) => {
      const { multihop, intervalMs, detectMult } = bfd!;
      const peer = parseAddress(text);
      const settings = { az: index + 1, minTxUs: intervalMs * 1000, minRxUs: intervalMs * 1000, detectMult };
      return { key: keyOf(peer, multihop), peer, settings, multihop };
    }),
  );
}

/**
 * Makes the sessions those of the AZs. A session with the same peer goes on as it is: changed times are agreed with the
 * peer while it is up. Throws `capacity_exceeded`, and nothing is changed then.
 */
export function writeBfdSessions({ bfd, control }: BfdPorts, azs: readonly AzConfig[]): void {
  const wanted = wantedSessions(azs);
  if (wanted.length > bfd.length) {
    throw new VnicError('capacity_exceeded', `${wanted.length} BFD peers, but a device has ${bfd.length} sessions.`, {
      remedy: 'Name fewer peers.',
    });
  }
  const { localDiscr: discriminatorAt } = VnicBfdSession.offsets;
  const kept = new Map<string, number>();
  const unused: number[] = [];
  const discriminators = new Set([0]);
  const keys = new Set(wanted.map(({ key }) => key));
  const leaving: number[] = [];
  for (let index = 0; index < bfd.length; index++) {
    const { localDiscr, peer, multihop } = bfd.read(index);
    discriminators.add(localDiscr);
    const key = keyOf(peer.bytes, multihop !== 0);
    if (localDiscr === 0) unused.push(index);
    else if (keys.has(key)) kept.set(key, index);
    else leaving.push(index);
  }
  for (const index of leaving) bfd.storeU32(index, discriminatorAt, 0);
  // Last: a program may be about to write to it.
  unused.push(...leaving);
  for (const { key, peer, multihop, settings } of wanted) {
    const index = kept.get(key);
    if (index !== undefined) {
      bfd.put(index, settings);
      continue;
    }
    const free = unused.shift()!;
    const state = { state: VnicBfdState.down, multihop: Number(multihop) };
    bfd.write(free, { ...settings, ...state, peer: { bytes: peer } });
    let discriminator = 0;
    while (discriminators.has(discriminator)) discriminator = randomInt(1, 2 ** 32);
    discriminators.add(discriminator);
    bfd.storeU32(free, discriminatorAt, discriminator);
  }
  const inUse = Array.from({ length: bfd.length }, (_, index) => bfd.u32(index, discriminatorAt) !== 0);
  control.storeU32(0, VnicControl.offsets.bfdSessions, inUse.lastIndexOf(true) + 1);
}

/** Every AZ that has peers, in their order; a session that is not there yet is left out. @param nowNs CLOCK_MONOTONIC */
export function bfdStatus(
  { bfd }: Pick<BfdPorts, 'bfd'>,
  azs: readonly AzConfig[],
  nowNs = process.hrtime.bigint(),
): AzBfdStatus[] {
  if (azs.every((az) => az.bfd === undefined)) return [];
  const sessions = new Map<string, VnicBfdSession>();
  for (let index = 0; index < VnicLimits.maxBfdSessions; index++) {
    const session = bfd.read(index);
    if (session.localDiscr !== 0) sessions.set(formatAddress(session.peer.bytes), session);
  }
  return azs.flatMap(({ name, bfd: asked }) => {
    if (asked === undefined) return [];
    const found = asked.peers.map((peer) => sessions.get(formatAddress(parseAddress(peer))));
    return [{ az: name, sessions: found.filter((one) => one !== undefined).map((one) => statusOf(one, nowNs)) }];
  });
}

function statusOf(session: VnicBfdSession, nowNs: bigint): BfdStatus {
  const { upSinceNs, downSinceNs, lastRxNs, detectNs } = session;
  const isUp = session.state === VnicBfdState.up;
  const ago = (since: bigint): number | null => (since === 0n ? null : Math.max(0, toMs(nowNs - since)));
  return {
    peer: formatAddress(session.peer.bytes),
    state: states[session.state] ?? 'down',
    remoteState: lastRxNs === 0n ? null : (states[session.remoteState] ?? null),
    diag: diagnosticText(session.diag),
    remoteDiag: diagnosticText(session.remoteDiag),
    left: session.left !== 0,
    upForMs: isUp ? ago(upSinceNs) : null,
    downForMs: isUp ? null : ago(downSinceNs),
    detectMs: detectNs === 0n ? null : toMs(detectNs),
    heardAgoMs: ago(lastRxNs),
    lostAfterMs: downSinceNs === 0n ? null : toMs(session.silentNs),
    received: session.received,
    sent: session.sent,
    rejected: session.rejected.reduce((sum, count) => sum + count, 0n),
  };
}

const toMs = (ns: bigint): number => Number(ns) / 1e6;

function diagnosticText(diag: number): string {
  return diagnostics[diag] ?? `code ${diag}`;
}
