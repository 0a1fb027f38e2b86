// SPDX-License-Identifier: Apache-2.0
/** Random flows, and the smallest frame of each: made fast, for tests that send hundreds of thousands. */
import type { ReplayFlowKey } from '../../src/captures/replay.ts';
import { hasPorts } from '../../src/steering/rules/protocols.ts';
import type { SteeringTable } from '../../src/steering/table.ts';
import { bucketCount, maxQueues, noQueue, rowCount } from '../../src/steering/table.ts';

export type Random = () => number;

const mappedPrefix = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);
const headerBytes: Readonly<Record<number, number>> = { 1: 4, 6: 20, 17: 8, 33: 12, 58: 4, 132: 12, 136: 8 };

export function isMapped(address: Uint8Array): boolean {
  return mappedPrefix.every((byte, index) => address[index] === byte);
}

/** A random whole number below `bound`. */
export function below(random: Random, bound: number): number {
  return random() % bound;
}

export function pick<T>(random: Random, values: readonly T[]): T {
  return values[below(random, values.length)]!;
}

/** Any two endpoints, half of them IPv4. */
export function randomFlow(random: Random): ReplayFlowKey {
  const bytes = Uint8Array.from({ length: 32 }, () => random() >>> 24);
  if (random() & 0x100) {
    for (const at of [0, 16]) bytes.set(mappedPrefix, at);
  }
  const flow = {
    src: bytes.slice(0, 16),
    dst: bytes.slice(16),
    sport: random() >>> 16,
    dport: random() >>> 16,
    proto: pick(random, [6, 17, 6, 17, 132, 1, 47]),
  };
  return asParsed(flow);
}

/** The flow as a parser sees it: without ports where the protocol has none. */
export function asParsed<F extends ReplayFlowKey>(flow: F): F {
  return hasPorts(flow.proto) ? flow : { ...flow, sport: 0, dport: 0 };
}

export function reversed<F extends ReplayFlowKey>(flow: F): F {
  return { ...flow, src: flow.dst, dst: flow.src, sport: flow.dport, dport: flow.sport };
}

/**
 * A well-formed frame of the flow: IPv4 if both addresses are, else IPv6; padded to `frameBytes`.
 * Protocols: any that is no IPv6 extension header.
 */
export function flowFrame(flow: ReplayFlowKey, frameBytes = 60): Uint8Array {
  const isIpv4 = isMapped(flow.src) && isMapped(flow.dst);
  const ipHeader = isIpv4 ? 20 : 40;
  const transport = headerBytes[flow.proto] ?? 0;
  const bytes = new Uint8Array(Math.max(frameBytes, 14 + ipHeader + transport));
  const view = new DataView(bytes.buffer);
  const ipBytes = bytes.length - 14;
  view.setUint16(12, isIpv4 ? 0x0800 : 0x86dd);
  if (isIpv4) {
    bytes[14] = 0x45;
    view.setUint16(16, ipBytes);
    bytes[23] = flow.proto;
    bytes.set(flow.src.subarray(12), 26);
    bytes.set(flow.dst.subarray(12), 30);
  } else {
    bytes[14] = 0x60;
    view.setUint16(18, ipBytes - 40);
    bytes[20] = flow.proto;
    bytes.set(flow.src, 22);
    bytes.set(flow.dst, 38);
  }
  const at = 14 + ipHeader;
  if (hasPorts(flow.proto)) {
    view.setUint16(at, flow.sport);
    view.setUint16(at + 2, flow.dport);
  }
  if (flow.proto === 6) bytes[at + 12] = 0x50;
  if (flow.proto === 17) view.setUint16(at + 4, ipBytes - ipHeader);
  return bytes;
}

/** Any table: also with buckets that have no queue, and with queues that are not usable. */
export function randomTable(random: Random): SteeringTable {
  const rows = Array.from({ length: rowCount }, () =>
    Uint16Array.from({ length: bucketCount }, () => (below(random, 50) === 0 ? noQueue : below(random, maxQueues))),
  );
  return { rows, usableQueues: randomMask(random) };
}

/** A set of queues: empty, sparse, dense or all. */
export function randomMask(random: Random): bigint {
  const word = (): bigint => (BigInt(random()) << 32n) | BigInt(random());
  return pick(random, [
    () => 0n,
    () => 1n << BigInt(below(random, 64)),
    word,
    () => word() & word(),
    () => word() | word(),
    () => 2n ** 64n - 1n,
  ])();
}
