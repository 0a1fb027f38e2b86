// SPDX-License-Identifier: Apache-2.0
/** The daemon as a node of a fleet: the node's devices are the engine's, its memory is the state folder's. */
import path from 'node:path';
import { errorOfProblem } from '../api/error-of-problem.ts';
import type { ApiEvent, ApiRequest } from '../api/operation.ts';
import { DiskFiles } from '../app/records/files.ts';
import { formatAz, parseAzs } from '../config/azs.ts';
import type { FleetConfig } from '../config/fleet.ts';
import { VnicError } from '../errors.ts';
import { storesOf } from '../fleet/connect.ts';
import type { DevicePolicy } from '../fleet/core/policy.ts';
import { FleetNode, type FleetView } from '../fleet/node/fleet-node.ts';
import type { NodeDevices } from '../fleet/node/ports.ts';
import { formatRule } from '../steering/rules/format.ts';
import { parseRules } from '../steering/rules/parse.ts';
import type { FleetSample } from '../telemetry/metrics/fleet.ts';
import type { WorkerEngine } from './engine.ts';

export interface FleetOptions {
  engine: WorkerEngine;
  stateFolder: string;
  version: string;
  publish: (event: ApiEvent) => void;
}

/** Events of the engine after which a fleet has something to look at. */
const wakes = new Set([
  'az.failed',
  'az.recovered',
  'az.set',
  'az.deleted',
  'rules.changed',
  'spec.changed',
  'device.attached',
  'device.adopted',
  'device.returned',
  'device.gone',
  'config.applied',
]);

export class DaemonFleet {
  readonly #options: FleetOptions;
  #config: FleetConfig | null = null;
  #node: FleetNode | null = null;

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  /** Joins, leaves or changes the fleet. To be called when the engine is ready. */
  async configure(config: FleetConfig | null): Promise<void> {
    if (JSON.stringify(config) === JSON.stringify(this.#config)) return;
    await this.stop();
    this.#config = config;
    if (config === null) return;
    const { engine, stateFolder, version, publish } = this.#options;
    this.#node = new FleetNode({
      settings: config,
      version,
      devices: new EngineDevices(engine),
      files: new DiskFiles(path.join(stateFolder, 'fleet')),
      stores: storesOf(config),
      publish,
    });
    this.#node.start();
  }

  /** Something happened on a device. */
  note({ type }: ApiEvent): void {
    if (wakes.has(type)) this.#node?.kick();
  }

  /** Throws `not_found` where the machine belongs to no fleet. */
  view(): FleetView {
    if (this.#node !== null) return this.#node.view();
    throw new VnicError('not_found', 'This machine belongs to no fleet.', {
      remedy: 'Give the section fleet in the configuration of the daemon, and reload it.',
    });
  }

  sample(): FleetSample | null {
    if (this.#node === null) return null;
    const { connected, specRevision, appliedRevision, drift, problems, lastSyncAgeSeconds, canary } = this.#node.view();
    return {
      connected,
      specRevision,
      appliedRevision,
      canary,
      drift: drift.length,
      problems: problems.length,
      lastSyncAgeSeconds,
    };
  }

  async stop(): Promise<void> {
    await this.#node?.stop();
    this.#node = null;
    this.#config = null;
  }
}

/** Devices of the daemon's own network namespace, by the operations of the API. */
class EngineDevices implements NodeDevices {
  readonly #engine: WorkerEngine;

  constructor(engine: WorkerEngine) {
    this.#engine = engine;
  }

  async look() {
    return await this.#engine.look();
  }

  async read(device: string): Promise<DevicePolicy> {
    const { body } = await this.#call('getSpec', { device });
    const { azs, rules } = body as { azs: unknown[]; rules: unknown[] };
    return { azs: parseAzs(azs), rules: parseRules(rules) };
  }

  async check(device: string, policy: DevicePolicy): Promise<void> {
    await this.#call('replaceSpec', { device }, formatDevicePolicy(policy), { dryRun: 'true' });
  }

  async replace(device: string, policy: DevicePolicy): Promise<string> {
    const { etag } = await this.#call('replaceSpec', { device }, formatDevicePolicy(policy));
    return etag.slice(1, -1);
  }

  async fail(device: string, az: string, { evidence, force }: { evidence: string; force: boolean }): Promise<void> {
    await this.#call('failAz', { device, az }, { cause: 'fleet', evidence, force });
  }

  async recover(device: string, az: string): Promise<void> {
    await this.#call('recoverAz', { device, az });
  }

  async #call(operation: string, params: Record<string, string>, body?: object, query: ApiRequest['query'] = {}) {
    const response = await this.#engine.call(operation, {
      params,
      query,
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
      body: body === undefined ? null : Buffer.from(JSON.stringify(body)),
    });
    const data = response.body === null ? null : (JSON.parse(Buffer.from(response.body).toString()) as object);
    if (response.status >= 400) throw errorOfProblem((data ?? {}) as Record<string, unknown>);
    return { body: data, etag: response.headers['etag'] ?? '' };
  }
}

function formatDevicePolicy({ azs, rules }: DevicePolicy): object {
  return {
    ...(azs === undefined ? {} : { azs: azs.map(formatAz) }),
    ...(rules === undefined ? {} : { rules: rules.map(formatRule) }),
  };
}
