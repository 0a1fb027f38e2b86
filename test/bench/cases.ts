// SPDX-License-Identifier: Apache-2.0
/** What `BENCH=packet` runs: one line for each packet, flow mix and rule set. Data, not code. */
import { packet } from '../support/packet.ts';

export interface PacketCase {
  name: string;
  frame: Uint8Array;
  /** As users write them. Default: none. */
  rules?: readonly unknown[];
  /** So many rules more that do not match. */
  fill?: number;
  /** Packets of so many flows, each from its own address; default: one hot flow. `new`: each packet is a flow of its own. */
  flows?: number | 'new';
  /** Which flow is next: any of them, or few of them mostly (Zipf, exponent 1). Default `uniform`. */
  mix?: 'uniform' | 'heavy-tailed';
  /** Places of the flow table. Default 131,072. */
  maxFlows?: number;
  /** False: no steering table, so that packets pass after their flow was counted. */
  isSteered?: boolean;
  /** Upper bound of the ratio to the floor that the product promises. */
  bound?: number;
  /** It is in the short form too. */
  quick?: boolean;
}

const [src, dst] = ['10.1.0.9', '10.100.0.2'];
const ports = { sport: 4000, dport: 5000 };
const hot = packet().ethernet().ipv4({ src, dst }).udp(ports).padTo(64).build();
const limit = { rate: '400gbit', burst: '60000kb' };
const udp = { proto: 'udp' };
const oneMillion = 1 << 20;

/** Cases that others are held against. */
export const lruPeer = 'peer: one look-up in the kernel LRU hash';
const hotCase = '+ steer: hot flow, no rule';

/** What is before the packet's flow is: the frame alone, then one thing more at a time. */
export const packetCases: readonly PacketCase[] = [
  { name: 'parse: not IP', frame: packet().ethernet().arp().padTo(64).build() },
  { name: '+ flow', frame: hot, isSteered: false },
  { name: hotCase, frame: hot, bound: 3.0, quick: true },
  { name: '+ rule that passes', frame: hot, rules: [{ id: 1, match: udp, action: 'pass' }], quick: true },
  { name: '+ rule with named queues', frame: hot, rules: [{ id: 1, match: udp, action: 'pass', queues: [3, 4, 9] }] },
  { name: '+ rule that drops', frame: hot, rules: [{ id: 1, match: udp, action: 'drop' }], quick: true },
  {
    name: '+ limit of a rule',
    frame: hot,
    rules: [{ id: 1, match: udp, action: 'pass', limit: { ...limit, scope: 'rule' } }],
    bound: 4.5,
    quick: true,
  },
  {
    name: '+ limit of each flow',
    frame: hot,
    rules: [{ id: 1, match: udp, action: 'pass', limit: { ...limit, scope: 'flow' } }],
    bound: 4.5,
    quick: true,
  },
  { name: 'hot flow, IPv4 TCP', frame: packet().ethernet().ipv4({ src, dst }).tcp(ports).padTo(64).build() },
  {
    name: 'hot flow, IPv6 UDP',
    frame: packet().ethernet().ipv6({ src: 'fd00:a::9', dst: 'fd00:100::2' }).udp(ports).padTo(64).build(),
    quick: true,
  },
  {
    name: 'hot flow, IPv6 TCP',
    frame: packet().ethernet().ipv6({ src: 'fd00:a::9', dst: 'fd00:100::2' }).tcp(ports).build(),
  },
  { name: 'hot flow, VLAN', frame: packet().ethernet().vlan(5).ipv4({ src, dst }).udp(ports).padTo(64).build() },
  {
    name: 'hot flow, QinQ',
    frame: packet().ethernet().vlan(7, { tpid: 0x88a8 }).vlan(5).ipv4({ src, dst }).udp(ports).padTo(64).build(),
  },
  { name: 'hot flow, 1 rule', frame: hot, fill: 1, quick: true },
  { name: 'hot flow, 100 rules', frame: hot, fill: 100 },
  { name: 'hot flow, 10,000 rules', frame: hot, fill: 10_000 },
  { name: 'hot flow, 100,000 rules', frame: hot, fill: 100_000, quick: true },
  { name: '10 flows', frame: hot, flows: 10, maxFlows: 2 * oneMillion },
  { name: '1,000 flows', frame: hot, flows: 1000, maxFlows: 2 * oneMillion, quick: true },
  { name: '100,000 flows', frame: hot, flows: 100_000, maxFlows: 2 * oneMillion },
  {
    name: '1,000,000 flows, heavy-tailed',
    frame: hot,
    flows: 1_000_000,
    mix: 'heavy-tailed',
    maxFlows: 2 * oneMillion,
  },
  { name: '1,000,000 flows', frame: hot, flows: 1_000_000, maxFlows: 2 * oneMillion, quick: true },
  { name: 'miss: each packet a new flow, no rule', frame: hot, flows: 'new', quick: true },
  { name: 'miss: each packet a new flow, 100,000 rules', frame: hot, flows: 'new', fill: 100_000 },
];

export interface Growth {
  name: string;
  from: string;
  to: string;
  /** What the product promises. */
  bound?: number;
}

/** What more of something may cost, against less of it in the same run: the empty program's cost is no part of these. */
export const growths: readonly Growth[] = [
  {
    name: 'from 1 to 100,000 rules',
    from: 'hot flow, 1 rule',
    to: 'hot flow, 100,000 rules',
    bound: 1.15,
  },
  { name: 'from 1,000 to 1,000,000 flows', from: '1,000 flows', to: '1,000,000 flows', bound: 2 },
  { name: 'from one look-up in the kernel LRU hash to the hot flow', from: lruPeer, to: hotCase },
  { name: 'from the hot flow to a drop by rule', from: hotCase, to: '+ rule that drops' },
  { name: 'from the hot flow to a limit of a rule', from: hotCase, to: '+ limit of a rule' },
  { name: 'from the hot flow to a limit of each flow', from: hotCase, to: '+ limit of each flow' },
  { name: 'from IPv4 to IPv6, hot flow', from: hotCase, to: 'hot flow, IPv6 UDP' },
  {
    name: 'from 1,000,000 flows to a new flow each',
    from: '1,000,000 flows',
    to: 'miss: each packet a new flow, no rule',
  },
];

/** Rules of a few shapes that the hot packet does not match. */
export function fillRules(count: number): unknown[] {
  return Array.from({ length: count }, (_, index) => ({
    id: 1000 + index,
    priority: index % 7,
    match: {
      src: `172.${16 + (index % 16)}.${(index >> 4) & 255}.${(index >> 12) & 255}`,
      ...(index % 3 === 0 ? { proto: 'tcp', dstPort: 1 + (index % 60_000) } : {}),
    },
    action: 'drop',
  }));
}
