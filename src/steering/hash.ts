// SPDX-License-Identifier: Apache-2.0
/**
 * The flow hash and the choice of a queue, as the BPF programs make them. The BPF side is tested
 * against these functions, so they must stay a plain model of it.
 *
 * Each endpoint is hashed by itself with the rounds of MurmurHash3_x86_32 and the two are added, so both
 * directions of a connection have the same hash and meet the same bucket.
 */
import { bucketCount, hasQueue, noQueue, queuesOf } from './table.ts';

export interface FlowHashKey {
  /** 16 bytes; IPv4 as ::ffff:a.b.c.d. */
  src: Uint8Array;
  dst: Uint8Array;
  /** Host byte order; 0 where the protocol has no ports and for fragments. */
  sport: number;
  dport: number;
  /** IP protocol number. */
  proto: number;
}

/** One round of MurmurHash3_x86_32 over a 32-bit word. */
export function murmurRound(hash: number, word: number): number {
  let w = Math.imul(word, 0xcc9e2d51);
  w = (w << 15) | (w >>> 17);
  w = Math.imul(w, 0x1b873593);
  let h = hash ^ w;
  h = (h << 13) | (h >>> 19);
  return (Math.imul(h, 5) + 0xe6546b64) >>> 0;
}

/** Finaliser of MurmurHash3_x86_32: each input bit changes each output bit with probability close to 1/2. */
export function fmix32(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function endpointHash(addr: Uint8Array, port: number, seed: number): number {
  let h = seed;
  for (let i = 0; i < 16; i += 4) {
    h = murmurRound(h, addr[i]! | (addr[i + 1]! << 8) | (addr[i + 2]! << 16) | (addr[i + 3]! << 24));
  }
  return murmurRound(h, port);
}

/** Hash of a flow, u32. The seed is vnic_control.hash_seed. */
export function flowHash(key: FlowHashKey, seed: number): number {
  const src = endpointHash(key.src, key.sport, seed);
  const dst = endpointHash(key.dst, key.dport, seed);
  return fmix32((src + dst + Math.imul(key.proto, 0x9e3779b1)) >>> 0);
}

export function bucketOf(hash: number): number {
  return hash & (bucketCount - 1);
}

export interface QueueChoice {
  /** Of flowHash(). */
  hash: number;
  bucket: number;
  /** AZ index of the flow, 0 if none is known. */
  az: number;
  rows: readonly Uint16Array[];
  /** vnic_table_info.usable_queues of the table. */
  usableQueues: bigint;
  /** Queues that the flow's rule names; 0n or absent: the rule names none. */
  ruleQueues?: bigint;
}

/**
 * Queue of a flow, or noQueue. A rule's queues come before the table. The flow stays on its queue among all those
 * that the rule names as long as that queue is usable, so losing a queue disturbs only the flows that were on it.
 * The bits above the bucket's choose, so that one bucket's flows spread over the rule's queues.
 */
export function chooseQueue(choice: QueueChoice): number {
  const { hash, bucket, az, rows, usableQueues } = choice;
  const ruleQueues = choice.ruleQueues ?? 0n;
  const selector = hash >>> 12;
  const named = queuesOf(ruleQueues);
  if (named.length > 0) {
    const first = named[selector % named.length]!;
    if (hasQueue(usableQueues, first)) return first;
    const usable = queuesOf(ruleQueues & usableQueues);
    if (usable.length > 0) return usable[selector % usable.length]!;
  }
  return rows[az]?.[bucket] ?? noQueue;
}
