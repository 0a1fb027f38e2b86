// SPDX-License-Identifier: Apache-2.0
/**
 * A fleet on one machine: three members of etcd and real daemons, each in a network namespace of its own, with bpffs,
 * run folder and state of its own. etcd's data and the nodes' states are on tmpfs.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Policy, parsePolicy } from '../../src/fleet/core/policy.ts';
import { FleetOperator } from '../../src/fleet/operator.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { vnicctl } from '../support/cli.ts';
import { sendTo } from '../support/daemon.ts';
import { EtcdCluster } from '../support/etcd.ts';
import { enterNetns, FleetNetwork, type NodeHost } from './fleet-network.ts';

const CLIENT_PORT = 2379;
const PEER_PORT = 2380;
export const PREFIX = '/vnic/fleets/rig';
const START_TIMEOUT_MS = 120_000;
/** So many begin at a time: each loads its programs. */
const AT_A_TIME = 4;

interface LogLine {
  msg: string;
  atMs: number;
  fields: Record<string, unknown>;
}

export class FleetDaemon {
  readonly name: string;
  readonly host: NodeHost;
  readonly folder: string;
  readonly log: LogLine[] = [];
  /** Told of each line of the log. */
  onLine: ((line: LogLine) => void) | null = null;
  #child: ChildProcess | undefined;
  #stderr = '';

  constructor(name: string, host: NodeHost, folder: string) {
    this.name = name;
    this.host = host;
    this.folder = folder;
    mkdirSync(folder);
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get socket(): string {
    return path.join(this.folder, 'vnicd.sock');
  }

  configure(endpoints: readonly string[]): void {
    writeFileSync(
      path.join(this.folder, 'vnic.yaml'),
      `fleet: {endpoints: [${endpoints.join(', ')}], prefix: ${PREFIX}, node: ${this.name}, labels: {rack: r${Number(this.name.slice(4)) % 4}}}\n`,
    );
  }

  run(): void {
    const script =
      'mount -t bpf bpf /sys/fs/bpf && mkdir -p /run/vnic && mount -t tmpfs tmpfs /run/vnic && exec "$0" serve --config "$1"';
    const args = [`--net=/run/netns/${this.host.netns}`, 'unshare', '--mount', 'sh', '-c', script, vnicctl];
    const child = spawn('nsenter', [...args, path.join(this.folder, 'vnic.yaml')], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        VNIC_STATE_DIR: path.join(this.folder, 'state'),
        VNIC_SOCKET: this.socket,
        EXPORTER_PORT: '0',
        NODE_OPTIONS: '--max-semi-space-size=2',
      },
    });
    this.#child = child;
    child.stderr.on('data', (data: Buffer) => {
      this.#stderr += data.toString();
    });
    createInterface({ input: child.stdout }).on('line', (text) => {
      const fields = JSON.parse(text) as Record<string, unknown>;
      const line = { msg: String(fields['msg']), atMs: performance.now(), fields };
      this.log.push(line);
      this.onLine?.(line);
    });
  }

  async ready(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (performance.now() < deadline && this.#child?.exitCode == null) {
      const reply = await this.send('GET', '/readyz').catch(() => null);
      if (reply?.status === 200) return;
      await sleep(50);
    }
    throw new Error(`${this.name} did not become ready: ${this.#stderr}${JSON.stringify(this.log.slice(-3))}`);
  }

  async send(method: string, url: string, body?: unknown) {
    // A connection of its own: one that is kept may be closed by a daemon that is slow to be asked again.
    const headers = { connection: 'close' };
    return await sendTo(this.socket, method, url, body === undefined ? { headers } : { body, headers });
  }

  async ask<T>(method: string, url: string, body?: unknown): Promise<T> {
    const reply = await this.send(method, url, body);
    if (reply.status >= 300) throw new Error(`${this.name}: ${method} ${url}: ${reply.status} ${reply.text}`);
    return reply.json<T>();
  }

  async attach(): Promise<void> {
    await this.ask('POST', '/api/v1/devices', {
      name: 'eth0',
      num_queues: 2,
      maxFlows: 4096,
      maxRules: 1024,
      azs: policyDevice(0).azs,
    });
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
}

/** A device's policy in which everything says `version`: half of it would be seen. */
function policyDevice(version: number) {
  const rate = `${1000 + version}kbit`;
  const limit = { rate, burst: '64kb', scope: 'rule' };
  return {
    azs: [
      { name: 'az-a', queues: '0', prefixes: ['10.251.0.0/16'], weight: 1 },
      { name: 'az-b', queues: '1', prefixes: ['10.252.0.0/16'], weight: 1 },
    ],
    rules: [
      { id: 1, match: { src: '10.252.0.0/16', proto: 'udp' }, action: 'pass', limit },
      { id: 2, match: { src: '10.253.0.0/16', proto: 'tcp' }, action: 'pass', limit },
    ],
  };
}

export function policyOf(version: number): Policy {
  return parsePolicy({ parts: [{ devices: { eth0: policyDevice(version) } }] }, 'the policy of the rig');
}

export class FleetRig implements AsyncDisposable {
  readonly network: FleetNetwork;
  readonly etcd: EtcdCluster;
  readonly nodes: FleetDaemon[];
  readonly #folder: string;
  readonly #inside: Disposable;

  private constructor(
    network: FleetNetwork,
    etcd: EtcdCluster,
    nodes: FleetDaemon[],
    folder: string,
    inside: Disposable,
  ) {
    this.network = network;
    this.etcd = etcd;
    this.nodes = nodes;
    this.#folder = folder;
    this.#inside = inside;
  }

  /** This thread is in the fabric's namespace until it is disposed of. */
  static async start({ nodes: count }: { nodes: number }): Promise<FleetRig> {
    const network = new FleetNetwork({ members: 3, nodes: count });
    const inside = enterNetns(loadNative(), network.fabric);
    const folder = mkdtempSync(path.join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'vnic-fleet-'));
    const stack: AsyncDisposable[] = [];
    try {
      const places = network.members.map(({ netns, address }) => {
        return { netns, address, clientPort: CLIENT_PORT, peerPort: PEER_PORT };
      });
      const etcd = await EtcdCluster.start({ places });
      stack.push(etcd);
      const nodes = network.nodes.map(
        (host, index) => new FleetDaemon(`node${index}`, host, path.join(folder, `node${index}`)),
      );
      const rig = new FleetRig(network, etcd, nodes, folder, inside);
      stack[0] = rig;
      for (let at = 0; at < nodes.length; at += AT_A_TIME) {
        await Promise.all(nodes.slice(at, at + AT_A_TIME).map((node) => rig.#begin(node)));
      }
      return rig;
    } catch (error) {
      for (const one of stack) await one[Symbol.asyncDispose]();
      if (stack.length === 0) {
        inside[Symbol.dispose]();
        network[Symbol.dispose]();
      }
      throw error;
    }
  }

  async #begin(node: FleetDaemon): Promise<void> {
    node.configure(this.etcd.endpoints);
    node.run();
    await node.ready();
    await node.attach();
  }

  /** What an operator does, over a member of etcd. */
  async operate<T>(use: (operator: FleetOperator) => Promise<T>, member = this.etcd.members[0]!): Promise<T> {
    const store = member.store();
    try {
      return await use(new FleetOperator(store, PREFIX, 'rig'));
    } finally {
      store.close();
    }
  }

  get pids(): number[] {
    return this.nodes.map(({ pid }) => pid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()));
    await this.etcd[Symbol.asyncDispose]();
    this.#inside[Symbol.dispose]();
    this.network[Symbol.dispose]();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
