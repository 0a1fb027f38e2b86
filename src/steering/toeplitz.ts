// SPDX-License-Identifier: Apache-2.0
/**
 * The hash by which devices choose a receive queue (receive-side scaling): Toeplitz over addresses and ports, as
 * Microsoft's "RSS hashing types" and the virtio specification (5.1.6.4.3) define it.
 */
import type { FlowHashKey } from './hash.ts';

/** 2 x 16 bytes of addresses, 2 x 2 of ports, and the 4 bytes that the last bit still looks at. */
export const rssKeyBytes = 40;

/** @param input at most `key.length - 4` bytes */
export function toeplitz(key: Uint8Array, input: Uint8Array): number {
  let hash = 0;
  let window = ((key[0]! << 24) | (key[1]! << 16) | (key[2]! << 8) | key[3]!) >>> 0;
  for (let at = 0; at < input.length; at++) {
    const next = key[at + 4] ?? 0;
    for (let bit = 7; bit >= 0; bit--) {
      if ((input[at]! >> bit) & 1) hash ^= window;
      window = ((window << 1) | ((next >> bit) & 1)) >>> 0;
    }
  }
  return hash >>> 0;
}

const v4Prefix = 12;
const [TCP, UDP] = [6, 17];

function isV4({ src }: FlowHashKey): boolean {
  return src.subarray(0, 10).every((byte) => byte === 0) && src[10] === 0xff && src[11] === 0xff;
}

/** Whether a device hashes ports of UDP too: all virtio devices do, many physical ones only addresses. */
export interface RssFields {
  udpPorts: boolean;
}

/** What a device makes of a flow. Fragments and protocols without ports are hashed by their addresses. */
export function rssHash(key: Uint8Array, flow: FlowHashKey, { udpPorts }: RssFields = { udpPorts: true }): number {
  const start = isV4(flow) ? v4Prefix : 0;
  const hasPorts = flow.sport !== 0 || flow.dport !== 0;
  const ports = hasPorts && (flow.proto === TCP || (flow.proto === UDP && udpPorts));
  const { sport, dport } = flow;
  return toeplitz(
    key,
    Uint8Array.from([
      ...flow.src.subarray(start),
      ...flow.dst.subarray(start),
      ...(ports ? [sport >> 8, sport & 0xff, dport >> 8, dport & 0xff] : []),
    ]),
  );
}
