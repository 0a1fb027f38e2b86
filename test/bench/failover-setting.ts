// SPDX-License-Identifier: Apache-2.0
/** The rig, a daemon that can be treated badly, and the device attached by it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { deviceOf } from '../rig/scenarios/daemon.ts';
import { createRig, type Rig } from '../rig/topology.ts';
import { ZoneRun } from '../rig/zone-run.ts';
import { TestDaemon } from '../support/daemon.ts';

/** How one zone is watched, as in the configuration. */
export interface ZoneWatch {
  silence_ms?: number;
  probe?: Record<string, unknown>;
  bfd?: Record<string, unknown>;
}

export const AZ = 'az-b';
export const FLOWS = 10_000;
/** Of those, of no AZ: a part of them is on the queues of each, and moves though its sender lives. */
const OUTSIDE_FLOWS = 2000;
/** So much that without the dead zone's share it is still what is promised. */
export const RATE_PPS = 720_000;
/** What is promised on top of the bound that was asked for. */
export const MARGIN_MS = 5;

/** Of each AZ, in the rig's order. */
export const zoneQueues = [
  { name: 'az-a', first: 0, last: 10 },
  { name: AZ, first: 11, last: 21 },
  { name: 'az-c', first: 22, last: 31 },
] as const;
const PROBE_SETTLE_MS = 700;
/** After so long a heartbeat is stale. */
const DEADMAN_MS = 1000;
/** So long that it surely is, and shorter than the daemon is blocked. */
export const STALE_MS = 1300;

export class FailoverSetting implements AsyncDisposable {
  readonly rig: Rig;
  readonly daemon: TestDaemon;
  readonly #folder: string;
  readonly #url: string;
  #blocks = 0;

  private constructor(rig: Rig, daemon: TestDaemon, folder: string) {
    this.rig = rig;
    this.daemon = daemon;
    this.#folder = folder;
    this.#url = `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}`;
  }

  static async start(): Promise<FailoverSetting> {
    const folder = mkdtempSync(path.join(tmpdir(), 'vnic-failover-'));
    const preload = path.join(import.meta.dirname, '../support/block-threads.ts');
    const env = { NODE_OPTIONS: `--import=${preload}`, VNIC_TEST_BLOCK: path.join(folder, 'block') };
    const rig = createRig({ id: 'failover' });
    try {
      return new FailoverSetting(rig, await TestDaemon.start({ folder, env }), folder);
    } catch (error) {
      rig.dispose();
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  async attach(watch: ZoneWatch): Promise<void> {
    const { device: name, netns, queues } = this.rig;
    const failover = { deadman: { timeout_ms: DEADMAN_MS } };
    const body = { name, netns, deliverMetadata: true, num_queues: queues, failover, azs: this.#azs(watch) };
    await this.daemon.ask('POST', '/api/v1/devices', { body });
  }

  async configure(watch: ZoneWatch): Promise<void> {
    await this.daemon.ask('PUT', `${this.#url}/azs`, { body: this.#azs(watch) });
  }

  #azs(watch: ZoneWatch): Record<string, unknown>[] {
    return this.rig.azs.map((az, index) => ({
      name: az.name,
      queues: `${zoneQueues[index]!.first}-${zoneQueues[index]!.last}`,
      prefixes: [az.ipv4Prefix, az.ipv6Prefix],
      // What is measured are repetitions, not a zone that flaps.
      hold_down_ms: 0,
      flap: { penalty: 0 },
      ...(az.name === AZ ? watch : {}),
    }));
  }

  /** By hand. Nanoseconds from the decision to the table's being active. */
  async change(az: string, what: 'fail' | 'recover'): Promise<number> {
    const { commitNs } = await this.daemon.ask<{ commitNs: number }>('POST', `${this.#url}/azs/${az}/${what}`);
    return commitNs;
  }

  /** All threads of the daemon stand still for so long, from now on. */
  block(ms: number): void {
    writeFileSync(path.join(this.#folder, 'block'), `${++this.#blocks} ${ms}`);
  }

  /** Waits until a zone that is up has answered for a while. */
  async probesAnswer(az: string): Promise<void> {
    await sleep(PROBE_SETTLE_MS);
    const { state } = await this.daemon.ask<{ state: string }>('GET', `${this.#url}/azs/${az}`);
    if (state !== 'up') throw new Error(`${az} is ${state} although its link is up`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // It may have been stopped when something failed.
    this.daemon.signal('SIGCONT');
    await this.daemon.send('DELETE', `${this.#url}?force=true`).catch(() => undefined);
    await this.daemon[Symbol.asyncDispose]();
    this.rig.dispose();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Traffic of all zones; see ZoneRun. */
export const startRun = ({ rig }: FailoverSetting, ratePps = RATE_PPS): Promise<ZoneRun> =>
  ZoneRun.start(rig, { flows: FLOWS, outsideFlows: OUTSIDE_FLOWS, ratePps, durationMs: 1_800_000 });
