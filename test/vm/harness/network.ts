// SPDX-License-Identifier: Apache-2.0
/** The other ends of the guest's cables: multiqueue taps in a network namespace of their own. */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { quietIpv6 } from '../../support/quiet-ipv6.ts';
import type { NicOptions } from './machines.ts';
import { type Cable, cableOf, guestAddresses, peerAzs } from './protocol.ts';

const FOLDER = '/run/netns';

function run(command: string, args: readonly string[], input = ''): void {
  const result = spawnSync(command, args, { encoding: 'utf8', input });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${result.stderr.trim()}`);
}

function makeTap({ tap, peerMac }: Cable, { mtu, queues }: NicOptions): string {
  // QEMU opens a tap with one queue as one that cannot have more, and the kernel holds the two apart.
  return `
ip tuntap add dev ${tap} mode tap ${queues > 1 ? 'multi_queue ' : ''}vnet_hdr
ip link set ${tap} address ${peerMac}${mtu === undefined ? '' : ` mtu ${mtu}`}
ip link set ${tap} up`;
}

/** The peer of the first NIC stands for three AZs, all on one link. */
function addressAzs({ tap, guestMac }: Cable): string {
  const addresses = peerAzs.map(
    ({ ipv4, ipv6 }) => `
ip addr add ${ipv4}/8 dev ${tap}
ip addr add ${ipv6}/16 dev ${tap} nodad`,
  );
  return `${addresses.join('')}
ip neigh add ${guestAddresses.ipv4} lladdr ${guestMac} dev ${tap}
ip neigh add ${guestAddresses.ipv6} lladdr ${guestMac} dev ${tap}`;
}

function addressPair({ tap, guestMac, peerIpv4, guestIpv4 }: Cable): string {
  return `
ip addr add ${peerIpv4} peer ${guestIpv4} dev ${tap}
ip neigh add ${guestIpv4} lladdr ${guestMac} dev ${tap}`;
}

/** Neighbours are static and IPv6 is quiet, so that the guest receives what a test sends and nothing else. */
function setUp(nics: readonly NicOptions[]): string {
  const cables = nics.map((nic, position) => {
    const cable = cableOf(position);
    return `${makeTap(cable, nic)}${position === 0 ? addressAzs(cable) : addressPair(cable)}`;
  });
  return `${quietIpv6}${cables.join('')}\n`;
}

let made = 0;

export class GuestNetwork implements Disposable {
  readonly namespace = `vnic-vm${made++}-${process.pid}`;
  readonly #taps: readonly string[];

  constructor(nics: readonly NicOptions[]) {
    this.#taps = nics.map((_, position) => cableOf(position).tap);
    this.dispose();
    run('ip', ['netns', 'add', this.namespace]);
    try {
      run('nsenter', [this.#option, 'sh', '-eu'], setUp(nics));
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  get #option(): string {
    return `--net=${FOLDER}/${this.namespace}`;
  }

  /** A command line that runs another one in the namespace. */
  command(command: string, args: readonly string[]): [string, string[]] {
    return ['nsenter', [this.#option, command, ...args]];
  }

  /** Removes the namespace and the taps. Whatever ran in it has ended before. */
  dispose(): void {
    if (!existsSync(`${FOLDER}/${this.namespace}`)) return;
    // Its devices would otherwise go away some time later, when the last reference does.
    for (const tap of this.#taps) spawnSync('ip', ['-n', this.namespace, 'link', 'del', tap], { stdio: 'ignore' });
    spawnSync('ip', ['netns', 'del', this.namespace], { stdio: 'ignore' });
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
