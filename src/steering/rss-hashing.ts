// SPDX-License-Identifier: Apache-2.0
/**
 * By what a device hashes flows for its indirection table. It does not say all of it, and says some of it wrongly, so
 * where packets arrived decides. Pure.
 */
import type { FlowHashKey } from './hash.ts';
import { type RssFields, rssHash } from './toeplitz.ts';

/** An indirection table and a key as they were given to the driver. */
export interface KnownRss {
  table: readonly number[];
  key: Uint8Array;
}

export interface RssHashing extends RssFields {
  /** That the device has. */
  key: Uint8Array;
}

/**
 * virtio_net of some kernels gives the device its key one byte further on, behind a byte of padding, and goes on to show
 * the right one (mended in Linux 6.19 and 6.18.7 by "virtio_net: Fix misalignment bug in struct virtnet_info"). The first
 * byte weighs in the upper bits of a hash only, and a table is picked from by the lower ones.
 */
function oneByteOn(key: Uint8Array): Uint8Array {
  return Uint8Array.from([0, ...key.subarray(0, -1)]);
}

/** What may be, the most likely first. */
export function rssHashings({ key }: Pick<KnownRss, 'key'>): RssHashing[] {
  return [key, oneByteOn(key)].flatMap((inUse) => [
    { key: inUse, udpPorts: true },
    { key: inUse, udpPorts: false },
  ]);
}

/** Entry of the table that a flow falls to. */
export function rssEntry({ key, udpPorts }: RssHashing, { table }: Pick<KnownRss, 'table'>, flow: FlowHashKey): number {
  return rssHash(key, flow, { udpPorts }) % table.length;
}

/** A flow and the receive queue that it arrived on. */
export interface ArrivedFlow {
  key: FlowHashKey;
  arrived: number;
}

/** So many say it as well as all of them. */
const ENOUGH_FLOWS = 1000;

/** The one by which most flows arrived where the table says; of those that explain as many, the most likely. */
export function findHashing(flows: readonly ArrivedFlow[], rss: KnownRss): RssHashing {
  const some = flows.slice(0, ENOUGH_FLOWS);
  const explained = (hashing: RssHashing): number =>
    some.filter(({ key, arrived }) => rss.table[rssEntry(hashing, rss, key)] === arrived).length;
  const [first, ...others] = rssHashings(rss).map((hashing) => ({ hashing, flows: explained(hashing) }));
  return others.reduce((best, other) => (other.flows > best.flows ? other : best), first!).hashing;
}
