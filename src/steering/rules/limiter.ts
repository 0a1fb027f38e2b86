// SPDX-License-Identifier: Apache-2.0
/** A limit in the dataplane's units: ticks of 1/16 ns (vnic_abi.h, struct vnic_rule_action). */
import { VnicLimiterUnits } from '../../maps/generated/abi.ts';
import type { Limit } from './model.ts';

export interface LimiterNumbers {
  /** Ticks << 16. */
  readonly costPerByte: bigint;
  /** Ticks. */
  readonly costPerPacket: bigint;
  /** Ticks: what the whole burst costs. */
  readonly tolerance: bigint;
}

const TICKS_PER_SECOND = 1_000_000_000n << BigInt(VnicLimiterUnits.ticksPerNsShift);
const BYTE_SHIFT = BigInt(VnicLimiterUnits.costPerByteShift);

/**
 * Costs are rounded to the nearest tick, so a rate in packets is exact to 1 % up to 320 Mpps, and a rate in bits to
 * better than one in 40,000 at 400 Gbit/s.
 */
export function limiterNumbers(limit: Limit): LimiterNumbers {
  if ('packetsPerSecond' in limit.rate) {
    const costPerPacket = divideRounded(TICKS_PER_SECOND, BigInt(limit.rate.packetsPerSecond));
    const packets = 'packets' in limit.burst ? limit.burst.packets : 1;
    return { costPerByte: 0n, costPerPacket, tolerance: BigInt(packets) * costPerPacket };
  }
  const costPerByte = divideRounded((8n * TICKS_PER_SECOND) << BYTE_SHIFT, BigInt(limit.rate.bitsPerSecond));
  const bytes = 'bytes' in limit.burst ? limit.burst.bytes : 1;
  return { costPerByte, costPerPacket: 0n, tolerance: (BigInt(bytes) * costPerByte) >> BYTE_SHIFT };
}

function divideRounded(dividend: bigint, divisor: bigint): bigint {
  return (dividend + divisor / 2n) / divisor;
}
