// SPDX-License-Identifier: Apache-2.0
/**
 * What the flow table says of the device: where the last packet of each flow arrived, against where the device should have
 * sent it. Walks the mapped table while packets go on. Only flows that can tell count: their last packet is of the last
 * minute, and came some time after the device was told.
 */
import { VnicDirection, VnicFlow, VnicFlowKey, VnicLimits, VnicNone } from '../maps/generated/abi.ts';
import type { FlowHashKey } from '../steering/hash.ts';
import { type Arrival, judgeObedience, type Obedience } from '../steering/redirect.ts';
import { findHashing, type KnownRss, rssEntry } from '../steering/rss-hashing.ts';
import type { EntryLoad } from '../steering/rss-plan.ts';
import {
  type FlowClock,
  type FlowSlice,
  type FlowTableView,
  holdsFlow,
  lowHalf as low,
  walk,
} from '../telemetry/flow-entries.ts';

/** A flow that was silent for longer does not count. */
const RECENT_NS = 60e9;
/** Packets that came sooner after the device was told may have been on their way. */
const TOLD_NS = 0.2e9;
/** A multiqueue tap forgets what it learned of a flow after 3 s without a packet of the guest's (drivers/net/tun.c). */
const LEARNED_NS = 2.5e9;

const { offsets, size } = VnicFlow;
const words = size / 4;
const longs = size / 8;

/** A flow of one direction. */
interface Seen {
  hash: number;
  queue: number;
  arrived: number;
  /** Jiffies before the look. */
  idle: number;
  age: number;
}

/** @param visit of each flow of the last minute; `index` is its entry in the slice */
function visitRecent(
  table: FlowTableView,
  { jiffies, nsPerJiffy }: FlowClock,
  visit: (flow: Seen, slice: FlowSlice, index: number) => void,
): void {
  const now = Number(jiffies & 0xffff_ffffn);
  walk(table, (slice) => {
    const { tags, u32 } = slice;
    // Differences of jiffies fit 32 bits.
    const since = (at: number): number => Math.max((now - u32[at + low]!) | 0, 0);
    for (let index = 0; index < tags.length; index++) {
      if (!holdsFlow(tags[index]!)) continue;
      const base = index * words;
      const idle = since(base + offsets.lastSeenJiffies / 4);
      // Queue and arrival are one u32.
      const place = u32[base + offsets.queue / 4]!;
      const queue = low === 0 ? place & 0xffff : place >>> 16;
      if (idle * nsPerJiffy > RECENT_NS || queue === VnicNone.noQueue) continue;
      const arrival = low === 0 ? place >>> 16 : place & 0xffff;
      const arrived = arrival & ~VnicLimits.arrivedDirect;
      const age = since(base + offsets.createdJiffies / 4);
      visit({ hash: u32[base + offsets.hash / 4]!, queue, arrived, idle, age }, slice, index);
    }
  });
}

function isIngress({ bytes }: FlowSlice, index: number): boolean {
  return bytes[index * size + VnicFlowKey.offsets.direction] === VnicDirection.ingress;
}

/** How long ago, in jiffies, the device must have been told at the latest. */
function jiffiesSince({ monotonicNs, nsPerJiffy }: FlowClock, toldNs: bigint): number {
  return (Number(monotonicNs - toldNs) - TOLD_NS) / nsPerJiffy;
}

/**
 * Of the mode `follow`: flows that this machine sends packets of too, against the queue that it sends them by.
 * @param toldNs CLOCK_MONOTONIC
 */
export function followArrivals(table: FlowTableView, toldNs: bigint): Arrival[] {
  const clock = table.clock();
  const ingress: Seen[] = [];
  // Both directions of a connection have one hash.
  const sent = new Map<number, Seen>();
  visitRecent(table, clock, (flow, slice, index) => {
    if (isIngress(slice, index)) ingress.push(flow);
    else sent.set(flow.hash, flow);
  });
  const told = jiffiesSince(clock, toldNs);
  const learned = LEARNED_NS / clock.nsPerJiffy;
  const settled = TOLD_NS / clock.nsPerJiffy;
  return ingress.flatMap(({ hash, arrived, idle }) => {
    const taught = sent.get(hash);
    if (taught === undefined || idle > told) return [];
    const isTaught = taught.age > idle + settled && Math.abs(taught.idle - idle) < learned;
    return isTaught ? [{ expected: taught.queue, arrived }] : [];
  });
}

export interface RssArrivals extends Obedience {
  /** What each entry of the table carries, in packets a second, by the queue on which it belongs. */
  loads: Map<number, EntryLoad>;
}

/** A flow that arrives, and what its entry says of its hash and load. */
interface Arriving extends Seen {
  key: FlowHashKey;
  packetsPerSecond: number;
}

function hashKeyAt({ bytes }: FlowSlice, index: number): FlowHashKey {
  const copy = bytes.slice(index * size, index * size + VnicFlowKey.size);
  const { src, dst, sport, dport, proto } = VnicFlowKey.decode(copy);
  return { src: src.bytes, dst: dst.bytes, sport, dport, proto };
}

/** Of the mode `rss`: every flow against the queue of its entry. */
export function rssArrivals(table: FlowTableView, rss: KnownRss, toldNs: bigint): RssArrivals {
  const clock = table.clock();
  const flows: Arriving[] = [];
  visitRecent(table, clock, (flow, slice, index) => {
    if (!isIngress(slice, index)) return;
    const packets = Number(slice.u64[index * longs + offsets.packets / 8]!);
    const seconds = ((flow.age + 1) * clock.nsPerJiffy) / 1e9;
    flows.push({ ...flow, key: hashKeyAt(slice, index), packetsPerSecond: packets / seconds });
  });
  const told = jiffiesSince(clock, toldNs);
  const telling = flows.filter(({ idle }) => idle <= told);
  const hashing = findHashing(telling, rss);
  const entryOf = ({ key }: Arriving): number => rssEntry(hashing, rss, key);
  const arrivals = telling.map((flow): Arrival => ({ expected: rss.table[entryOf(flow)]!, arrived: flow.arrived }));
  return { ...judgeObedience(arrivals), loads: loadsOf(flows, entryOf) };
}

function loadsOf(flows: readonly Arriving[], entryOf: (flow: Arriving) => number): Map<number, EntryLoad> {
  const loads = new Map<number, Map<number, number>>();
  for (const flow of flows) {
    const entry = entryOf(flow);
    const load = loads.get(entry) ?? new Map<number, number>();
    loads.set(entry, load.set(flow.queue, (load.get(flow.queue) ?? 0) + flow.packetsPerSecond));
  }
  return loads;
}
