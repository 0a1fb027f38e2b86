// SPDX-License-Identifier: Apache-2.0
/** What `BENCH=packet` runs: one line for each packet and rule set. Data, not code. */
import { packet } from '../support/packet.ts';

export interface PacketCase {
  name: string;
  frame: Uint8Array;
  /** As users write them; `fill` adds this many rules that do not match. */
  rules: readonly unknown[];
  fill?: number;
  /** Upper bound of the ratio to a bare XDP_PASS that the product promises, or null. */
  bound: number | null;
}

/** What many rules may cost a hot packet, against one rule in the same run. */
export const rulesGrowth = { from: 'hot flow, 1 rule', to: 'hot flow, 100,000 rules', bound: 1.15 } as const;

const udp4 = packet().ethernet().ipv4({ src: '10.1.0.9', dst: '10.100.0.2' }).udp({ sport: 4000, dport: 5000 });
const hot = udp4.padTo(64).build();
const limit = { rate: '400gbit', burst: '60000kb' };

export const packetCases: readonly PacketCase[] = [
  { name: 'not IP (parse ends)', frame: packet().ethernet().arp().padTo(64).build(), rules: [], bound: null },
  { name: 'hot flow, no rule', frame: hot, rules: [], bound: 3.0 },
  {
    name: 'hot flow, rule passes',
    frame: hot,
    rules: [{ id: 1, match: { proto: 'udp' }, action: 'pass' }],
    bound: null,
  },
  {
    name: 'hot flow, named queues',
    frame: hot,
    rules: [{ id: 1, match: { proto: 'udp' }, action: 'pass', queues: [3, 4, 9] }],
    bound: null,
  },
  { name: 'dropped by rule', frame: hot, rules: [{ id: 1, match: { proto: 'udp' }, action: 'drop' }], bound: null },
  {
    name: 'limited, rule scope',
    frame: hot,
    rules: [{ id: 1, match: { proto: 'udp' }, action: 'pass', limit: { ...limit, scope: 'rule' } }],
    bound: 4.5,
  },
  {
    name: 'limited, flow scope',
    frame: hot,
    rules: [{ id: 1, match: { proto: 'udp' }, action: 'pass', limit: { ...limit, scope: 'flow' } }],
    bound: 4.5,
  },
  {
    name: 'hot flow, VLAN',
    frame: packet()
      .ethernet()
      .vlan(5)
      .ipv4({ src: '10.1.0.9', dst: '10.100.0.2' })
      .udp({ sport: 1, dport: 2 })
      .padTo(64)
      .build(),
    rules: [],
    bound: null,
  },
  {
    name: 'hot flow, IPv6 TCP',
    frame: packet().ethernet().ipv6({ src: 'fd00:a::9', dst: 'fd00:100::2' }).tcp({ sport: 4000, dport: 443 }).build(),
    rules: [],
    bound: null,
  },
  { name: 'hot flow, 1 rule', frame: hot, rules: [], fill: 1, bound: null },
  { name: 'hot flow, 100 rules', frame: hot, rules: [], fill: 100, bound: null },
  { name: 'hot flow, 10,000 rules', frame: hot, rules: [], fill: 10_000, bound: null },
  { name: 'hot flow, 100,000 rules', frame: hot, rules: [], fill: 100_000, bound: null },
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
