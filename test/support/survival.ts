// SPDX-License-Identifier: Apache-2.0
/** A daemon and the devices that it looks after, to be treated badly. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Dataplane } from '../../src/app/dataplane.ts';
import type { Drift } from '../../src/app/drift.ts';
import { loadNative, type Native } from '../../src/loader/ffi/index.ts';
import { type DeviceId, deviceText, PinFolder } from '../../src/loader/pins.ts';
import { CliRig } from './cli.ts';
import { type DaemonOptions, type Reply, type SendOptions, TestDaemon } from './daemon.ts';

export interface Status {
  ifindex: number;
  activeTable: number | null;
  ruleGeneration: number;
  rules: number;
  azs: { name: string; state: 'up' | 'failed'; weight: number; queues: number[]; prefixes: string[] }[];
  counters: { redirected: number };
  drift: Drift[];
  damagedFiles: string[];
}

export interface Explained {
  rule: number | null;
  az: string | null;
  queue: number | null;
  verdict: string;
}

export interface Summary {
  device: string;
  state: 'attached' | 'gone' | 'failed';
  problem: { code: string; detail: string; remedy: string } | null;
}

const WAIT_MS = 90_000;
const POLL_MS = 25;

/** Waits until `look` gives something. The machine may be busy; only a wait that never ends fails. */
export async function until<T>(what: string, look: () => T | Promise<T>): Promise<NonNullable<T>> {
  const deadline = performance.now() + WAIT_MS;
  for (;;) {
    const found = await look();
    if (found != null && found !== false) return found;
    assert.ok(performance.now() < deadline, `waited in vain: ${what}`);
    await sleep(POLL_MS);
  }
}

export function ip(arguments_: string): void {
  execFileSync('ip', arguments_.split(' '), { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Small maps: attaching is quick. */
export const smallMaps = { maxRules: 256, maxFlows: 1024 } as const;

/** One end in the guest namespace, the other with 32 queues in the peer namespace. */
export interface VethSpec {
  name: string;
  peer: string;
  /** Last two bytes of the guest end's address. */
  mac: string;
  /** Default 32. */
  queues?: number;
}

export const macOf = ({ mac }: Pick<VethSpec, 'mac'>): string => `02:00:00:00:${mac}`;

export class SurvivalRig implements AsyncDisposable {
  readonly rig: CliRig;
  readonly daemon: TestDaemon;
  readonly native: Native;

  private constructor(rig: CliRig, daemon: TestDaemon, native: Native) {
    this.rig = rig;
    this.daemon = daemon;
    this.native = native;
  }

  static async start(id: string, options: DaemonOptions = {}): Promise<SurvivalRig> {
    const native = loadNative();
    native.setPrint(null);
    const rig = new CliRig(id);
    try {
      return new SurvivalRig(rig, await TestDaemon.start(options), native);
    } catch (error) {
      rig[Symbol.dispose]();
      throw error;
    }
  }

  id(name = 'vnic0'): DeviceId {
    return { name, netns: this.rig.guest };
  }

  text(name = 'vnic0'): string {
    return deviceText(this.id(name));
  }

  url(rest = '', name = 'vnic0'): string {
    return `/api/v1/devices/${encodeURIComponent(this.text(name))}${rest}`;
  }

  /** Another vnicctl on this machine may have the lock for long: nothing was done then. */
  async send(method: string, url: string, options: SendOptions = {}): Promise<Reply> {
    return await until(`an answer to ${method} ${url}`, async () => {
      const reply = await this.daemon.send(method, url, options);
      return reply.status === 409 && reply.text.includes('Another vnicctl is at work') ? null : reply;
    });
  }

  /** As send(), and throws for anything but a success. */
  async ask<T>(method: string, url: string, options: SendOptions = {}): Promise<T> {
    const reply = await this.send(method, url, options);
    assert.ok(reply.status < 300, `${method} ${url}: ${reply.status} ${reply.text}`);
    return reply.json<T>();
  }

  async attach(body: Record<string, unknown> = {}, name = 'vnic0'): Promise<void> {
    await this.ask('POST', '/api/v1/devices', {
      body: { name, netns: this.rig.guest, ...smallMaps, ...body },
    });
  }

  async status(name = 'vnic0'): Promise<Status> {
    return await this.ask<Status>('GET', this.url('', name));
  }

  /** Undefined: the daemon does not know of it. */
  async summary(name = 'vnic0'): Promise<Summary | undefined> {
    const { items } = await this.ask<{ items: Summary[] }>('GET', '/api/v1/devices');
    return items.find(({ device }) => device === this.text(name));
  }

  async ruleIds(name = 'vnic0'): Promise<number[]> {
    const { items } = await this.ask<{ items: { id: number }[] }>('GET', this.url('/rules?limit=1000', name));
    return items.map(({ id }) => id).sort((a, b) => a - b);
  }

  async putRule(id: number, body: Record<string, unknown> = { action: 'drop' }, name = 'vnic0'): Promise<Reply> {
    return await this.send('PUT', this.url(`/rules/${id}`, name), { body });
  }

  async explain(src: string, name = 'vnic0'): Promise<Explained> {
    return await this.ask<Explained>('POST', this.url('/explain', name), {
      body: { src, dst: '10.9.0.1', proto: 'udp', srcPort: 1, dstPort: 2 },
    });
  }

  /** Sends packets from the peer until the daemon counts one that was steered. */
  async expectSteered(name = 'vnic0'): Promise<void> {
    const before = (await this.status(name)).counters.redirected;
    await until(`${name} steers packets`, async () => {
      this.rig.send({ fromPort: 4001, toPort: 5001, packets: 5, bytes: 100 });
      return (await this.status(name)).counters.redirected > before;
    });
  }

  /** The kernel's side, opened without asking the daemon. */
  dataplane(name = 'vnic0'): Dataplane {
    return Dataplane.open(this.native, this.pins(name));
  }

  pins(name = 'vnic0'): PinFolder {
    return new PinFolder(this.native, this.id(name));
  }

  events(type: string, device = this.text()): Record<string, unknown>[] {
    return this.daemon.events(type).filter((event) => event['device'] === device);
  }

  /** Waits for the event number `count` of this type, from the first run of the daemon on. */
  async event(type: string, count = 1, device = this.text()): Promise<Record<string, unknown>> {
    return await until(`event ${type} number ${count} of ${device}`, () => this.events(type, device)[count - 1]);
  }

  addVeth({ name, peer, mac, queues = 32 }: VethSpec): void {
    ip(
      `-n ${this.rig.guest} link add ${name} address ${macOf({ mac })} numtxqueues ${queues} numrxqueues ${queues} type veth ` +
        `peer name ${peer} netns ${this.rig.peer} numtxqueues 32 numrxqueues 32`,
    );
    ip(`-n ${this.rig.guest} link set ${name} up`);
    ip(`-n ${this.rig.peer} link set ${peer} up`);
  }

  removeVeth(name: string): void {
    ip(`-n ${this.rig.guest} link del ${name}`);
  }

  /** Ends the daemon, whatever state it is in, and takes off what it attached. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.daemon[Symbol.asyncDispose]();
    } finally {
      for (const name of ['vnic0', 'vnic1', 'vnic9']) this.pins(name).remove();
      this.rig[Symbol.dispose]();
    }
  }
}
