// SPDX-License-Identifier: Apache-2.0
/** Packets and tables for flows that change their place. */
import { parseAddress } from '../../src/steering/rules/prefix.ts';
import type { SteeringTable } from '../../src/steering/table.ts';
import { flowFrame } from './flow-frames.ts';
import { tableTo } from './one-queue-table.ts';

export function frameOf(proto: number, sport = 1000): Uint8Array {
  const flow = { src: parseAddress('10.0.0.1'), dst: parseAddress('10.0.0.2'), sport, dport: 53, proto };
  return flowFrame(flow, 200);
}

/** Everything goes to one queue of 32, of which some are lost. */
export function tableOf(queue: number, lost: number[] = []): SteeringTable {
  return tableTo(
    queue,
    lost.reduce((mask, one) => mask & ~(1n << BigInt(one)), 2n ** 32n - 1n),
  );
}
