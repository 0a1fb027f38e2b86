// SPDX-License-Identifier: Apache-2.0
/** Nodes of a fleet in memory: devices that remember what was done to them, files that need no disk. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { StateFiles } from '../../src/app/records/files.ts';
import { VnicError } from '../../src/errors.ts';
import { type DevicePolicy, formatPolicy, type Policy, parsePolicy } from '../../src/fleet/core/policy.ts';
import { MemoryCluster, MemoryStore } from '../../src/fleet/memory-store.ts';
import { FleetNode, type NodeSettings } from '../../src/fleet/node/fleet-node.ts';
import type { DeviceView, FleetEvent, NodeDevices } from '../../src/fleet/node/ports.ts';
import { FleetOperator } from '../../src/fleet/operator.ts';
import type { FleetStore } from '../../src/fleet/store.ts';

export class MemoryFiles implements StateFiles {
  readonly files = new Map<string, Buffer>();

  pathOf(name: string): string {
    return `/memory/${name}`;
  }
  names(): string[] {
    return [...this.files.keys()];
  }
  read(name: string): Buffer | null {
    return this.files.get(name) ?? null;
  }
  writeTemporary(name: string, contents: Uint8Array): string {
    this.files.set(`${name}.tmp`, Buffer.from(contents));
    return `${name}.tmp`;
  }
  linkTemporary(from: string, name: string): string {
    this.link(from, `${name}.tmp`);
    return `${name}.tmp`;
  }
  link(from: string, to: string): void {
    this.files.set(to, this.files.get(from)!);
  }
  rename(from: string, to: string): void {
    this.files.set(to, this.files.get(from)!);
    this.files.delete(from);
  }
  remove(name: string): void {
    this.files.delete(name);
  }
  sync(): void {}
  removeAbandoned(): void {}
  removeOwn(): void {}
}

interface FakeDevice {
  policy: DevicePolicy;
  changes: number;
  failed: Map<string, string>;
  packets: number;
  dropped: number;
}

export class FakeDevices implements NodeDevices {
  readonly devices = new Map<string, FakeDevice>();
  /** What was done, such as `replace eth0` and `fail eth0 az-a`. */
  readonly done: string[] = [];
  /** Refuses to replace on this device. */
  refusing: string | null = null;
  /** Told of before it is checked. */
  refusingCheck: string | null = null;
  /** Looks wait for it. */
  beforeLook: Promise<void> = Promise.resolve();

  add(name: string, policy: Parameters<typeof devicePolicy>[0] = {}): this {
    this.devices.set(name, { policy: devicePolicy(policy), changes: 0, failed: new Map(), packets: 0, dropped: 0 });
    return this;
  }

  get(name: string): FakeDevice {
    const device = this.devices.get(name);
    if (device === undefined) throw new VnicError('not_found', `${name} is not attached.`);
    return device;
  }

  /** Ids of its rules, and names of its AZs. */
  has(name: string): { rules: number[]; azs: string[] } {
    const { rules = [], azs = [] } = this.get(name).policy;
    return { rules: rules.map(({ id }) => id), azs: azs.map((az) => az.name) };
  }

  async look(): Promise<DeviceView[]> {
    await this.beforeLook;
    return [...this.devices].map(([name, device]) => ({
      name,
      tag: String(device.changes),
      azs: (device.policy.azs ?? []).map((az) => {
        const cause = device.failed.get(az.name) ?? null;
        return { name: az.name, state: cause === null ? 'up' : 'failed', cause };
      }),
      packets: device.packets,
      dropped: device.dropped,
    }));
  }

  read(device: string): Promise<DevicePolicy> {
    return Promise.resolve(this.get(device).policy);
  }

  async check(device: string, _policy: DevicePolicy): Promise<void> {
    if (this.refusingCheck === device) throw new VnicError('too_many_shapes', `${device}: too many shapes.`);
  }

  async replace(device: string, policy: DevicePolicy): Promise<string> {
    const found = this.get(device);
    await sleep(0);
    if (this.refusing === device) throw new VnicError('kernel_refused', `${device}: ENOMEM.`);
    this.done.push(`replace ${device}`);
    found.policy = { ...found.policy, ...policy };
    return String(++found.changes);
  }

  /** Somebody else changes it. */
  meddle(device: string, policy: Parameters<typeof devicePolicy>[0]): void {
    const found = this.get(device);
    found.policy = { ...found.policy, ...devicePolicy(policy) };
    found.changes++;
  }

  async fail(device: string, az: string): Promise<void> {
    await sleep(0);
    this.done.push(`fail ${device} ${az}`);
    this.get(device).failed.set(az, 'fleet');
  }

  async recover(device: string, az: string): Promise<void> {
    await sleep(0);
    this.done.push(`recover ${device} ${az}`);
    this.get(device).failed.delete(az);
  }
}

export function devicePolicy(device: { azs?: object[]; rules?: object[] }): DevicePolicy {
  return parsePolicy({ parts: [{ devices: { eth0: device } }] }, 'test').parts[0]!.devices['eth0']!;
}

export const az = (name: string, queues = '0') => ({ name, queues });
export const rule = (id: number) => ({ id, match: { proto: 'udp', dstPort: 1000 + (id % 60_000) }, action: 'pass' });

export function policy(device: { azs?: object[]; rules?: object[] }, selector = {}, name = 'eth0'): Policy {
  return parsePolicy({ parts: [{ selector, devices: { [name]: device } }] }, 'test');
}

export function textOf(one: Policy): string {
  return formatPolicy(one);
}

export class TestFleet implements AsyncDisposable {
  readonly cluster = new MemoryCluster();
  readonly nodes: TestNode[] = [];
  readonly store: FleetStore = new MemoryStore(this.cluster);
  readonly operator = new FleetOperator(this.store, '/vnic', 'tester');

  node(
    name: string,
    settings: Partial<NodeSettings> = {},
    files = new MemoryFiles(),
    devices = new FakeDevices().add('eth0'),
  ): TestNode {
    const node = new TestNode(this.cluster, name, settings, files, devices);
    this.nodes.push(node);
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()));
    this.store.close();
  }
}

export class TestNode {
  readonly node: FleetNode;
  readonly devices: FakeDevices;
  readonly files: MemoryFiles;
  readonly events: FleetEvent[] = [];

  constructor(
    cluster: MemoryCluster,
    name: string,
    settings: Partial<NodeSettings>,
    files: MemoryFiles,
    devices: FakeDevices,
  ) {
    this.devices = devices;
    this.files = files;
    this.node = new FleetNode({
      settings: { prefix: '/vnic', node: name, labels: {}, quorum: 'majority', mendDrift: true, ...settings },
      version: '1.2.3',
      devices,
      files,
      stores: [() => new MemoryStore(cluster)],
      publish: (event) => this.events.push(event),
      timings: { lookMs: 10, checkMs: 20, retryMs: 10 },
    });
    this.node.start();
  }

  types(): string[] {
    return this.events.map(({ type }) => type);
  }

  /** Waits until it holds of what the node tells. */
  async until(what: string, holds: (view: ReturnType<FleetNode['view']>) => boolean): Promise<void> {
    await until(
      () => holds(this.node.view()),
      () => `${what}: ${JSON.stringify(this.node.view())} ${JSON.stringify(this.events)}`,
    );
  }

  async applied(revision: number): Promise<void> {
    await this.until(`revision ${revision}`, (view) => view.appliedRevision === revision);
  }

  async stop(): Promise<void> {
    await this.node.stop();
  }
}

const PATIENCE_MS = 10_000;

export async function until(holds: () => boolean | Promise<boolean>, what: () => string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`in vain: ${what()}`);
    await sleep(5);
  }
}
