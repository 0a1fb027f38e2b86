// SPDX-License-Identifier: Apache-2.0
/** What the kernel's watch sees of each AZ now: plain data, from bpf/watch.h's map. */
import { type VnicWatch, VnicWatchLimits } from '../maps/generated/abi.ts';
import type { AzConfig } from '../steering/azs.ts';
import { type LossCause, lossCause } from './az-watch.ts';
import { type BfdPorts, type BfdStatus, bfdStatus } from './bfd-sessions.ts';

export interface SilenceStatus {
  /** Whether enough arrived lately for silence to mean something. */
  armed: boolean;
  /** Null: nothing was heard yet. */
  heardAgoMs: number | null;
  /** Of the last stretch of silence_ms that was closed by a packet. */
  lastWindowPackets: number;
  /** So many are asked of a window. */
  floorPackets: number;
  /** Longest time without a packet while armed. */
  longestGapMs: number;
}

export interface AzWatchStatus {
  /** Null: silence is not looked at. */
  silence: SilenceStatus | null;
  /** One for each peer; empty: BFD is not looked at. */
  bfd: readonly BfdStatus[];
  /** The AZ is due to be taken out of use, but that would leave too few queues. */
  refused: LossCause | null;
}

/** What is read of a dataplane. */
export interface WatchPorts extends Pick<BfdPorts, 'bfd'> {
  readonly watch: { read(index: number): VnicWatch };
}

/** By position in `azs`; null for an AZ that is neither listened to nor has BFD peers. @param nowNs CLOCK_MONOTONIC */
export function azWatchStatus(
  ports: WatchPorts,
  azs: readonly AzConfig[],
  nowNs = process.hrtime.bigint(),
): (AzWatchStatus | null)[] {
  if (azs.length === 0) return [];
  const { azs: rows } = ports.watch.read(0);
  const sessions = new Map(bfdStatus(ports, azs, nowNs).map((status) => [status.az, status.sessions]));
  return azs.map(({ name }, position) => {
    // Row 0 of the steering table is of no AZ.
    const az = rows[position + 1];
    if (az === undefined || (az.silenceNs === 0n && az.bfdQuorum === 0)) return null;
    const silence: SilenceStatus | null =
      az.silenceNs === 0n
        ? null
        : {
            armed: az.windows >= VnicWatchLimits.windows,
            heardAgoMs: az.heardNs === 0n ? null : milliseconds(nowNs > az.heardNs ? nowNs - az.heardNs : 0n),
            lastWindowPackets: Number(az.lastWindowPackets),
            floorPackets: Number(az.floorPackets),
            longestGapMs: milliseconds(az.longestGapNs),
          };
    return { silence, bfd: sessions.get(name) ?? [], refused: lossCause(az.refused) };
  });
}

/** To the microsecond. */
function milliseconds(ns: bigint): number {
  return Number(ns / 1000n) / 1000;
}
