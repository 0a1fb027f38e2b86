// SPDX-License-Identifier: Apache-2.0
/**
 * The rig: a host with the device under test, a fabric, and AZs behind it, each in a network namespace.
 *
 *     vnic-PID-az-a  az0 --- az-a   vnic-PID-fabric   uplink --- vnic0   vnic-PID-host
 *     vnic-PID-az-b  az0 --- az-b  /   (bridge, XDP)
 *     vnic-PID-az-c  az0 --- az-c /
 *
 * Addresses, neighbours and the bridge's forwarding table are static and nothing floods towards the host, so that
 * what arrives at vnic0 is what a test sent.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { VnicError } from '../../src/errors.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { quietIpv6 } from '../support/quiet-ipv6.ts';
import { azOf, deviceName, hostAddresses, namespaceName, type RigAz, type RigHost } from './addresses.ts';
import { Fabric } from './fabric.ts';
import { removeNamespace, run, runInNamespace, sweepStaleNamespaces } from './namespaces.ts';

export interface RigOptions {
  /** Tells rigs of one process apart: lower-case letters. */
  id?: string;
  /** RX and TX queues of the device. Default 32. */
  queues?: number;
  /** Default 3. */
  azs?: number;
  /** Bytes. Default 1500. */
  mtu?: number;
}

export interface LinkChange {
  /** CLOCK_MONOTONIC before and after the kernel did it, as `process.hrtime.bigint()`. */
  readonly beforeNs: bigint;
  readonly afterNs: bigint;
}

const liveRigs = new Set<Rig>();

export class Rig implements Disposable {
  readonly native: Native;
  readonly device = deviceName;
  readonly queues: number;
  readonly host: RigHost;
  readonly azs: readonly RigAz[];
  /** Namespace of the fabric between host and AZs. */
  readonly fabricNetns: string;
  readonly fabric: Fabric;
  readonly #children = new Set<ChildProcess>();
  #disposed = false;

  constructor(native: Native, id: string, queues: number, azs: number, mtu: number) {
    this.native = native;
    this.queues = queues;
    this.host = { netns: namespaceName(process.pid, id, 'host'), ...hostAddresses };
    this.fabricNetns = namespaceName(process.pid, id, 'fabric');
    this.azs = Array.from({ length: azs }, (_, index) => azOf(index + 1, process.pid, id));
    this.fabric = new Fabric(native, this.fabricNetns);
    liveRigs.add(this);
    try {
      build(this, mtu);
      this.fabric.attach(
        'uplink',
        this.azs.map((az) => az.fabricDevice),
      );
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  get namespaces(): string[] {
    return [this.host.netns, this.fabricNetns, ...this.azs.map((az) => az.netns)];
  }

  /** Namespace in which the device under test is. */
  get netns(): string {
    return this.host.netns;
  }

  /** Throws `not_found`. */
  az(name: string): RigAz {
    const az = this.azs.find((candidate) => candidate.name === name);
    if (az === undefined) {
      throw new VnicError('not_found', `The rig has no ${name}.`, {
        remedy: `It has ${this.azs.map((candidate) => candidate.name).join(', ')}.`,
      });
    }
    return az;
  }

  /** Takes the AZ's link down at the fabric: nothing from it or to it passes. */
  cutAz(name: string): LinkChange {
    return this.#setLink(name, 'down');
  }

  /**
   * Makes everything ready for `cutAz`, so that the cut itself takes no process to be started: the function does it at
   * once and gives CLOCK_MONOTONIC from before.
   */
  async preparedCut(name: string): Promise<() => bigint> {
    const { fabricDevice } = this.az(name);
    const child = spawn('ip', ['-n', this.fabricNetns, '-batch', '-'], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.own(child);
    // Its answer says that it waits for the next line.
    child.stdin.write(`link show dev ${fabricDevice}\n`);
    child.stdin.write('link show dev lo\n');
    await once(child.stdout, 'data');
    return () => {
      const beforeNs = process.hrtime.bigint();
      child.stdin.end(`link set ${fabricDevice} down\n`);
      return beforeNs;
    };
  }

  restoreAz(name: string): LinkChange {
    return this.#setLink(name, 'up');
  }

  #setLink(name: string, state: 'up' | 'down'): LinkChange {
    const { fabricDevice } = this.az(name);
    const beforeNs = process.hrtime.bigint();
    run('ip', ['-n', this.fabricNetns, 'link', 'set', fabricDevice, state]);
    return { beforeNs, afterNs: process.hrtime.bigint() };
  }

  /** Makes a child process end with the rig. */
  own(child: ChildProcess): void {
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
  }

  /** Ends its child processes and removes its namespaces with all that is attached in them. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    liveRigs.delete(this);
    for (const child of this.#children) child.kill('SIGKILL');
    this.fabric.close();
    for (const namespace of this.namespaces) removeNamespace(namespace);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Builds a rig; first removes what rigs of processes that are gone have left. Needs root. */
export function createRig(options: RigOptions = {}): Rig {
  const { id = '', queues = 32, azs = 3, mtu = 1500 } = options;
  if (!/^[a-z]*$/.test(id)) throw new VnicError('usage', `A rig's id is lower-case letters, not '${id}'.`);
  disposeRigsAtExit();
  sweepStaleNamespaces();
  return new Rig(loadNative(), id, queues, azs, mtu);
}

function disposeAll(): void {
  for (const rig of liveRigs) rig.dispose();
}

let exitHandled = false;

/** Rigs also go when the process is interrupted; who handles the signal itself ends the process himself. */
function disposeRigsAtExit(): void {
  if (exitHandled) return;
  exitHandled = true;
  process.on('exit', disposeAll);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const onSignal = (): void => {
      if (process.listenerCount(signal) > 1) return;
      disposeAll();
      process.removeListener(signal, onSignal);
      process.kill(process.pid, signal);
    };
    process.on(signal, onSignal);
  }
}

function build(rig: Rig, mtu: number): void {
  for (const namespace of rig.namespaces) run('ip', ['netns', 'add', namespace]);
  runInNamespace(
    rig.fabricNetns,
    `
for scope in all default; do echo 1 > /proc/sys/net/ipv6/conf/$scope/disable_ipv6; done
ip link add bridge0 type bridge mcast_snooping 0
`,
  );
  for (const namespace of [rig.host.netns, ...rig.azs.map((az) => az.netns)]) runInNamespace(namespace, quietIpv6);
  connectHost(rig, mtu);
  for (const az of rig.azs) connectAz(rig, az, mtu);
}

function connectHost(rig: Rig, mtu: number): void {
  const many = `numtxqueues ${rig.queues} numrxqueues ${rig.queues}`;
  const { host, fabricNetns } = rig;
  runInNamespace(
    fabricNetns,
    `
ip link add uplink mtu ${mtu} ${many} type veth peer name ${deviceName} address ${host.mac} mtu ${mtu} ${many} netns ${host.netns}
ip link set uplink master bridge0 up
bridge link set dev uplink learning off flood off mcast_flood off bcast_flood off
bridge fdb add ${host.mac} dev uplink master static
ip link set bridge0 up
`,
  );
  // With GRO a veth device polls, and only then it takes redirected frames without a dataplane. Switched on before the
  // device is up, the other end would not learn of it.
  runInNamespace(
    host.netns,
    `
ip addr add ${host.ipv4}/16 dev ${deviceName}
ip addr add ${host.ipv6}/32 dev ${deviceName} nodad
ip link set ${deviceName} up
ethtool -K ${deviceName} gro on
${rig.azs.map((az) => neighbour(az, deviceName) + route(az, deviceName)).join('')}`,
  );
}

/** A frame whose checksum is left to the device loses that mark on the way through XDP and CPUMAP, so AZs compute it. */
function connectAz(rig: Rig, az: RigAz, mtu: number): void {
  runInNamespace(
    rig.fabricNetns,
    `
ip link add ${az.fabricDevice} mtu ${mtu} type veth peer name ${az.device} address ${az.mac} mtu ${mtu} netns ${az.netns}
ip link set ${az.fabricDevice} master bridge0 up
bridge link set dev ${az.fabricDevice} learning off flood off mcast_flood off bcast_flood off
bridge fdb add ${az.mac} dev ${az.fabricDevice} master static
`,
  );
  runInNamespace(
    az.netns,
    `
ethtool -K ${az.device} tx off
ip addr add ${az.ipv4}/16 dev ${az.device}
ip addr add ${az.ipv6}/32 dev ${az.device} nodad
ip link set ${az.device} up
ip route add 10.100.0.0/16 dev ${az.device}
ip -6 route add fd00:100::/32 dev ${az.device}
${neighbour(rig.host, az.device)}`,
  );
}

function neighbour(of: { ipv4: string; ipv6: string; mac: string }, device: string): string {
  return `ip neigh add ${of.ipv4} lladdr ${of.mac} dev ${device}\nip neigh add ${of.ipv6} lladdr ${of.mac} dev ${device}\n`;
}

function route(az: RigAz, device: string): string {
  return `ip route add ${az.ipv4Prefix} dev ${device}\nip -6 route add ${az.ipv6Prefix} dev ${device}\n`;
}
