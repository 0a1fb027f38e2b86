// SPDX-License-Identifier: Apache-2.0
/**
 * The network of a fleet: a fabric with a bridge, members of etcd and nodes in namespaces of their own. Nodes reach etcd
 * over the bridge (10.250.0.0/16); their dataplane devices `eth0` lead to the fabric, each in a subnet of its own
 * (10.251.N.0/24). Nothing of it reaches the machine's own network.
 */

import { constants } from 'node:fs';
import { Fd } from '../../src/loader/fd.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { Libc } from '../../src/maps/generated/host.ts';
import { namespaceName } from './addresses.ts';
import { removeNamespace, run, runInNamespace } from './namespaces.ts';

export interface Host {
  netns: string;
  /** On the bridge. */
  address: string;
  /** Its end at the bridge. */
  port: string;
}

export interface NodeHost extends Host {
  /** Of `eth0`, and of its other end in the fabric. */
  deviceAddress: string;
  fabricAddress: string;
}

export class FleetNetwork implements Disposable {
  readonly fabric: string;
  readonly members: Host[];
  readonly nodes: NodeHost[];

  constructor({ members, nodes }: { members: number; nodes: number }) {
    const name = (part: string): string => namespaceName(process.pid, 'fleet', part);
    this.fabric = name('fabric');
    this.members = Array.from({ length: members }, (_, index) => {
      return { netns: name(`etcd${index}`), address: `10.250.1.${index + 1}`, port: `m${index}` };
    });
    this.nodes = Array.from({ length: nodes }, (_, index) => ({
      netns: name(`node${index}`),
      address: `10.250.2.${index + 1}`,
      port: `n${index}`,
      deviceAddress: `10.251.${index + 1}.2`,
      fabricAddress: `10.251.${index + 1}.1`,
    }));
    try {
      this.#make();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Checksums are computed: what XDP redirects is not known any more as yet to be checksummed. */
  #make(): void {
    for (const { netns } of this.#all()) run('ip', ['netns', 'add', netns]);
    runInNamespace(
      this.fabric,
      'ip link set lo up\nip link add br0 type bridge\nip addr add 10.250.0.1/16 dev br0\nip link set br0 up',
    );
    for (const host of [...this.members, ...this.nodes]) {
      runInNamespace(
        this.fabric,
        `ip link add ${host.port} type veth peer name mgmt netns ${host.netns}
ip link set ${host.port} master br0 up`,
      );
      runInNamespace(host.netns, `ip link set lo up\nip addr add ${host.address}/16 dev mgmt\nip link set mgmt up`);
    }
    for (const [index, { netns, deviceAddress, fabricAddress }] of this.nodes.entries()) {
      const queues = 'numtxqueues 2 numrxqueues 2';
      runInNamespace(
        this.fabric,
        `ip link add d${index} ${queues} type veth peer name eth0 netns ${netns} ${queues}
ip addr add ${fabricAddress}/24 dev d${index}
ip link set d${index} up
ethtool -K d${index} tx off >/dev/null`,
      );
      runInNamespace(netns, `ip addr add ${deviceAddress}/24 dev eth0\nip link set eth0 up`);
    }
  }

  #all(): { netns: string }[] {
    return [{ netns: this.fabric }, ...this.members, ...this.nodes];
  }

  /** Cuts hosts off the bridge; their devices of the dataplane stay. */
  setConnected(hosts: readonly Host[], connected: boolean): void {
    for (const { port } of hosts) runInNamespace(this.fabric, `ip link set ${port} ${connected ? 'up' : 'down'}`);
  }

  [Symbol.dispose](): void {
    for (const { netns } of this.#all().reverse()) removeNamespace(netns);
  }
}

/**
 * Puts this thread into a namespace until it is disposed of: connections that it makes meanwhile, also later in its event
 * loop, are made there.
 */
export function enterNetns(native: Native, netns: string): Disposable {
  const open = (path: string): Fd => {
    const flags = constants.O_RDONLY | Libc.oCloexec;
    return new Fd(native, native.check(native.libc.open(path, flags, 0), 'open', path));
  };
  const home = open('/proc/thread-self/ns/net');
  using target = open(`/run/netns/${netns}`);
  native.check(native.libc.setns(target.value, Libc.cloneNewnet), 'setns', netns);
  return {
    [Symbol.dispose]: () => {
      native.check(native.libc.setns(home.value, Libc.cloneNewnet), 'setns', 'back');
      home.close();
    },
  };
}
