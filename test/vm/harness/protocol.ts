// SPDX-License-Identifier: Apache-2.0
/** The lines of JSON between a guest and its host, and the addresses both use. */

import type { MachineOptions } from './machines.ts';

/** What a guest says. A line that is none of these is output, shown when something fails. */
export type GuestLine =
  | { readonly kind: 'booted'; readonly kernel: string }
  | { readonly kind: 'broken'; readonly reason: string }
  /** It waits for its order. */
  | { readonly kind: 'ready' }
  | { readonly kind: 'passed'; readonly check: string }
  | { readonly kind: 'started'; readonly check: string }
  | { readonly kind: 'failed'; readonly check: string; readonly error: string }
  | { readonly kind: 'skipped'; readonly check: string; readonly reason: string }
  | { readonly kind: 'ask'; readonly id: number; readonly request: PeerRequest }
  | { readonly kind: 'ended'; readonly status: number };

/** What the guest is and has to do: the answer to `ready`. */
export interface GuestOrder {
  readonly machine: MachineOptions;
  /** Names of files in test/vm/guest. */
  readonly suites: readonly string[];
}

export interface HostLine {
  /** Of what was asked; 0 for the order. */
  readonly id: number;
  readonly order?: GuestOrder;
  readonly reply?: PeerReply;
  readonly error?: string;
}

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

export interface PeerFlow {
  /** The peer's end. */
  readonly from: Endpoint;
  /** The guest's end. */
  readonly to: Endpoint;
}

/** What the peer, at the other end of the cable, is asked to do. */
export type PeerRequest =
  /** Opens UDP sockets; those from before are closed. With `echo`, each datagram is sent back. */
  | { readonly do: 'open'; readonly endpoints: readonly Endpoint[]; readonly echo: boolean }
  /** Sends from open sockets, numbered datagrams, one of each flow in turn. Replies when all are sent. */
  | {
      readonly do: 'send';
      readonly flows: readonly PeerFlow[];
      readonly packets: number;
      readonly payloadBytes: number;
    }
  /** What each socket has received since it was opened. */
  | { readonly do: 'received' }
  /** Accepts TCP connections at this end and sends back what comes. */
  | { readonly do: 'echo-tcp'; readonly endpoint: Endpoint };

export interface Received extends Endpoint {
  readonly packets: number;
  /** From the first to the last. */
  readonly spanMs: number;
}

export interface PeerReply {
  readonly sent?: number;
  readonly received?: readonly Received[];
}

/** Each NIC has a cable of its own, told apart by its position among the machine's NICs. */
export interface Cable {
  readonly tap: string;
  readonly peerMac: string;
  readonly guestMac: string;
  /** Point to point; of the first NIC these are not set, whose peer stands for three AZs. */
  readonly peerIpv4: string;
  readonly guestIpv4: string;
}

export function cableOf(position: number): Cable {
  const digits = position.toString(16).padStart(2, '0');
  return {
    tap: `tap${position}`,
    peerMac: `02:76:6e:00:${digits}:01`,
    guestMac: `02:76:6e:00:${digits}:02`,
    peerIpv4: `10.200.${position}.1`,
    guestIpv4: `10.200.${position}.2`,
  };
}

export const guestAddresses = { mac: cableOf(0).guestMac, ipv4: '10.100.0.2', ipv6: 'fd00:100::2' };

/** The peer stands for three AZs. All are on the same link. */
export const { peerMac } = cableOf(0);
export const peerAzs = [
  { name: 'az-a', ipv4: '10.1.0.1', ipv6: 'fd00:a::1', prefixes: ['10.1.0.0/16', 'fd00:a::/32'] },
  { name: 'az-b', ipv4: '10.2.0.1', ipv6: 'fd00:b::1', prefixes: ['10.2.0.0/16', 'fd00:b::/32'] },
  { name: 'az-c', ipv4: '10.3.0.1', ipv6: 'fd00:c::1', prefixes: ['10.3.0.0/16', 'fd00:c::/32'] },
] as const;
