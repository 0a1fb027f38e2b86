// SPDX-License-Identifier: Apache-2.0
/** Availability zones as configured. */
import type { Prefix } from './rules/prefix.ts';

export interface AzConfig {
  /** Stands in paths and labels: letters, digits, dot, hyphen, underscore. */
  readonly name: string;
  /** Ascending, at least one; no queue belongs to two AZs. */
  readonly queues: readonly number[];
  /** Above 0; queues share the traffic that belongs to no AZ in proportion to it. */
  readonly weight: number;
  /** Remote addresses of the AZ; no two AZs overlap. */
  readonly prefixes: readonly Prefix[];
  readonly probe?: AzProbe;
  /** The AZ counts as lost when nothing came from its prefixes for so long. Absent: silence is not looked at. */
  readonly silenceMs?: number;
  /** Only an AZ that sent at least so many packets/s before can fall silent. Absent: silenceFloorPps(silenceMs). */
  readonly silenceFloorPps?: number;
  /** BFD sessions with peers in the AZ. Absent: none. */
  readonly bfd?: AzBfd;
  /** How long an AZ that was found dead stays failed at least. Absent: the default. */
  readonly holdDownMs?: number;
  /** Absent: the default. */
  readonly flap?: FlapDamping;
  /** Whether an AZ that was found dead is taken into use again when it is found alive. Absent: yes. */
  readonly autoRecover?: boolean;
}

/**
 * Flap damping (RFC 2439): each failure adds a penalty that decays by half in each half-life. Above `suppress` the AZ is
 * not recovered until the penalty is down to `reuse`.
 */
export interface FlapDamping {
  /** Of one failure; 0 turns damping off. */
  readonly penalty: number;
  readonly halfLifeMs: number;
  readonly suppress: number;
  /** Below `suppress`. */
  readonly reuse: number;
}

/** The third failure within about 80 seconds is suppressed, for up to two minutes. */
export const defaultFlapDamping: FlapDamping = { penalty: 1000, halfLifeMs: 60_000, suppress: 2000, reuse: 750 };

export const defaultHoldDownMs = 1000;

export const probeTypes = ['icmp', 'tcp', 'http', 'udp'] as const;
export type ProbeType = (typeof probeTypes)[number];

export interface ProbeTarget {
  /** Canonical address text. */
  readonly address: string;
  /** Null for ICMP. */
  readonly port: number | null;
}

export interface AzProbe {
  readonly type: ProbeType;
  /** At least one, all different. */
  readonly targets: readonly ProbeTarget[];
  /** So many targets must answer for the AZ to count as alive. */
  readonly quorum: number;
  readonly intervalMs: number;
  /** At most the interval: a probe ends before the next begins. */
  readonly timeoutMs: number;
  /** Failures in a row that take a target down. */
  readonly fall: number;
  /** Successes in a row that bring it back. */
  readonly rise: number;
  /** Of type http only. */
  readonly http?: HttpExpectation;
}

export interface HttpExpectation {
  readonly path: string;
  /** First and last status that count as an answer. */
  readonly status: readonly [number, number];
}

/** So many packets in silenceMs: if they come at random, the chance that none comes in one such time is 2e-9. */
const SILENCE_FLOOR_PACKETS = 20;

export function defaultSilenceFloorPps(silenceMs: number): number {
  return Math.ceil((SILENCE_FLOOR_PACKETS * 1000) / silenceMs);
}

/** Bidirectional Forwarding Detection, asynchronous mode (RFC 5880); this side takes the passive role. */
export interface AzBfd {
  /** Canonical address texts; at least one, all different, and in no other AZ's list. */
  readonly peers: readonly string[];
  /** So many sessions must be up for the AZ to count as alive, once they were. */
  readonly quorum: number;
  /** Required Min RX Interval and the least Desired Min TX Interval of this side. */
  readonly intervalMs: number;
  readonly detectMult: number;
  /** RFC 5883, port 4784; otherwise one hop, port 3784, TTL 255. */
  readonly multihop: boolean;
}
