// SPDX-License-Identifier: Apache-2.0
/** The other end of the guest's cable: a multiqueue tap in a network namespace of its own. */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { quietIpv6 } from '../../support/quiet-ipv6.ts';
import { guestAddresses, peerAzs, peerMac } from './protocol.ts';

const FOLDER = '/run/netns';

export const tapName = 'tap0';

function run(command: string, args: readonly string[], input = ''): void {
  const result = spawnSync(command, args, { encoding: 'utf8', input });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${result.stderr.trim()}`);
}

/** Neighbours are static and IPv6 is quiet, so that the guest receives what a test sends and nothing else. */
const setUp = `
${quietIpv6}ip tuntap add dev ${tapName} mode tap multi_queue vnet_hdr
ip link set ${tapName} address ${peerMac}
${peerAzs.map(({ ipv4, ipv6 }) => `ip addr add ${ipv4}/8 dev ${tapName}\nip addr add ${ipv6}/16 dev ${tapName} nodad\n`).join('')}
ip link set ${tapName} up
ip neigh add ${guestAddresses.ipv4} lladdr ${guestAddresses.mac} dev ${tapName}
ip neigh add ${guestAddresses.ipv6} lladdr ${guestAddresses.mac} dev ${tapName}
`;

export class GuestNetwork implements Disposable {
  readonly namespace = `vnic-vm-${process.pid}`;

  constructor() {
    this.dispose();
    run('ip', ['netns', 'add', this.namespace]);
    try {
      run('nsenter', [this.#option, 'sh', '-eu'], setUp);
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

  /** Removes the namespace and the tap. Whatever ran in it has ended before. */
  dispose(): void {
    if (!existsSync(`${FOLDER}/${this.namespace}`)) return;
    // Its devices would otherwise go away some time later, when the last reference does.
    spawnSync('ip', ['-n', this.namespace, 'link', 'del', tapName], { stdio: 'ignore' });
    spawnSync('ip', ['netns', 'del', this.namespace], { stdio: 'ignore' });
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
