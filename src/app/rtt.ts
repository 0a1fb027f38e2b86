// SPDX-License-Identifier: Apache-2.0
/** Round-trip times of TCP, measured in passing (bpf/rtt.h): what the programs are told, and what they found. */
import { VnicRtt, VnicRttMode } from '../maps/generated/abi.ts';
import { type LatencyCells, readRttCells } from '../telemetry/counters.ts';
import type { Dataplane } from './dataplane.ts';
import type { EgressHook } from './record.ts';

const { offsets } = VnicRtt;

/**
 * @param sample one TCP packet in so many that leave is looked at, rounded up to a power of two; 0: none
 * @param egress where nothing that leaves is seen, only handshakes are timed
 */
export function configureRtt(dataplane: Dataplane, sample: number, egress: EgressHook): void {
  const { rtt } = dataplane;
  const mode = egress === 'off' ? VnicRttMode.handshake : VnicRttMode.both;
  rtt.storeU32(0, offsets.sampleMask, 2 ** Math.ceil(Math.log2(Math.max(sample, 1))) - 1);
  rtt.storeU32(0, offsets.mode, sample === 0 ? VnicRttMode.off : mode);
}

export type RttMode = 'timestamps' | 'handshakes' | 'off';

export interface RttCells {
  mode: RttMode;
  /** Packets that were looked at and had no timestamp. */
  unstamped: bigint;
  /** Probes whose echo did not come, but a later one. */
  unanswered: bigint;
  /** Row 0: from no AZ that is known. */
  rows: LatencyCells[];
}

export function readRtt({ rtt, rtts }: Pick<Dataplane, 'rtt' | 'rtts'>): RttCells {
  return {
    mode: modeNames[rtt.u32(0, offsets.mode)] ?? 'off',
    unstamped: rtt.u64(0, offsets.unstamped),
    unanswered: rtt.u64(0, offsets.unanswered),
    rows: readRttCells(rtts),
  };
}

const modeNames: Readonly<Record<number, RttMode>> = {
  [VnicRttMode.off]: 'off',
  [VnicRttMode.both]: 'timestamps',
  [VnicRttMode.handshake]: 'handshakes',
};

/** Why there may be nothing, or less than could be; null: nothing to say. */
export function rttRemark({ mode, unstamped, rows }: RttCells): string | null {
  if (mode === 'off') return 'not measured: rtt_sample is 0';
  const isEmpty = rows.every(({ count }) => count === 0n);
  if (mode === 'handshakes') {
    const how = 'what leaves is not seen (egress is off): only handshakes of connections to this machine are timed';
    return isEmpty ? `${how}, and there was none yet` : how;
  }
  if (!isEmpty) return null;
  return unstamped > 0n
    ? 'no TCP packet with a timestamp (RFC 7323) was answered yet, and some have none'
    : 'no TCP packet was answered yet';
}
