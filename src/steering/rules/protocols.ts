// SPDX-License-Identifier: Apache-2.0
/** IP protocol numbers by name (IANA "Assigned Internet Protocol Numbers"; names as in /etc/protocols, lower case). */
import { VnicError } from '../../errors.ts';

const numbers = new Map<string, number>([
  ['icmp', 1],
  ['igmp', 2],
  ['ipip', 4],
  ['tcp', 6],
  ['udp', 17],
  ['dccp', 33],
  ['ipv6', 41],
  ['gre', 47],
  ['esp', 50],
  ['ah', 51],
  ['icmpv6', 58],
  ['ospf', 89],
  ['pim', 103],
  ['vrrp', 112],
  ['l2tp', 115],
  ['sctp', 132],
  ['udplite', 136],
]);

const names = new Map([...numbers].map(([name, number]) => [number, name]));
numbers.set('ipv6-icmp', 58);
numbers.set('icmp6', 58);

export const PROTO_ICMP = 1;
export const PROTO_ICMPV6 = 58;

/** TCP, UDP, DCCP, SCTP and UDP-Lite: the protocols whose ports the dataplane reads. */
const withPorts: ReadonlySet<number> = new Set([6, 17, 33, 132, 136]);

/** What stands between the IPv6 header and the protocol that counts (IANA "IPv6 Extension Header Types"; bpf/parse.h). */
const extensionHeaders: ReadonlySet<number> = new Set([0, 43, 44, 51, 60, 135, 139, 140]);

export function isExtensionHeader(proto: number): boolean {
  return extensionHeaders.has(proto);
}

export function hasPorts(proto: number): boolean {
  return withPorts.has(proto);
}

/** A name or a number from 0 to 255. Throws invalid_rule. */
export function parseProtocol(input: string | number): number {
  if (typeof input === 'string') {
    const named = numbers.get(input.toLowerCase());
    if (named !== undefined) return named;
  }
  const number = typeof input === 'string' && !/^\d{1,3}$/.test(input) ? Number.NaN : Number(input);
  if (Number.isInteger(number) && number >= 0 && number <= 255) return number;
  throw new VnicError('invalid_rule', `${JSON.stringify(input)} is not an IP protocol`, {
    remedy: `Give a number from 0 to 255 or one of: ${[...numbers.keys()].join(', ')}.`,
  });
}

/** The name, or the number where there is no name. */
export function formatProtocol(proto: number): string | number {
  return names.get(proto) ?? proto;
}
