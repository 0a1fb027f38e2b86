// SPDX-License-Identifier: Apache-2.0
/**
 * Watches the AZs of all attached devices that have a detector: fails those that probes find dead, and recovers those that
 * were found dead, by probes or by the kernel, when they are found alive. What somebody failed by hand is theirs.
 */
import type { AttachedDevice } from '../app/attached-device.ts';
import type { Controller } from '../app/controller.ts';
import type { AzChange, AzStatus } from '../app/device-status.ts';
import type { Publish } from '../app/keeper.ts';
import { VnicError } from '../errors.ts';
import { type DeviceId, deviceText } from '../loader/pins.ts';
import type { FailoverCause } from '../telemetry/metrics/switches.ts';
import { type Decision, policyOf, type Sign, type WatchedState } from './az-health.ts';
import { AzWatch, type Outcome } from './az-watch.ts';
import { type Evidence, evidenceText } from './evidence.ts';
import type { Prober } from './probers/index.ts';
import { SignsOfLife } from './signs-of-life.ts';

interface Watched {
  watch: AzWatch;
  /** What was configured of it: other probes are another watch. */
  settings: string;
}

interface Due {
  decision: Decision;
  evidence: Evidence;
  /** The same was refused before, and has been due since. */
  isAgain: boolean;
}

export type MonitorController = Pick<Controller, 'readDevice' | 'withDevice' | 'isPresent'> & {
  records: Pick<Controller['records'], 'devices'>;
};

export interface MonitorOptions {
  controller: MonitorController;
  publish: Publish;
  prober: Prober;
  /** Monotonic, ms. */
  now?: () => number;
}

export class HealthMonitor {
  readonly #controller: MonitorController;
  readonly #publish: Publish;
  readonly #prober: Prober;
  readonly #now: () => number;
  /** By device, then by AZ. */
  readonly #watched = new Map<string, Map<string, Watched>>();
  /** Why the last refusal was, by device and AZ. */
  readonly #refused = new Map<string, string>();

  constructor({ controller, publish, prober, now = () => performance.now() }: MonitorOptions) {
    this.#controller = controller;
    this.#publish = publish;
    this.#prober = prober;
    this.#now = now;
  }

  /** Takes over what devices and AZs there are now. To be called after any change. Never throws. */
  refresh(): void {
    const devices = new Map(this.#controller.records.devices().map((device) => [deviceText(device), device]));
    for (const text of this.#watched.keys()) if (!devices.has(text)) this.#drop(text);
    for (const [text, device] of devices) this.#refreshDevice(text, device);
  }

  #refreshDevice(text: string, device: DeviceId): void {
    try {
      if (!this.#controller.isPresent(device)) this.#drop(text);
      else this.#controller.readDevice(device, (attached) => this.#watch(device, attached.azs()));
    } catch {
      // It vanished, or cannot be read now: what is known of it goes on, and the keeper tells of the trouble.
    }
  }

  #drop(text: string): void {
    for (const name of this.#watched.get(text)?.keys() ?? []) this.#unwatch(text, name);
    this.#watched.delete(text);
  }

  #unwatch(text: string, az: string): void {
    const watched = this.#watched.get(text);
    watched?.get(az)?.watch.stop();
    watched?.delete(az);
    this.#refused.delete(`${text} ${az}`);
  }

  #watch(device: DeviceId, azs: readonly AzStatus[]): void {
    const text = deviceText(device);
    const watched = this.#watched.get(text) ?? new Map<string, Watched>();
    this.#watched.set(text, watched);
    const detected = new Map(azs.filter(hasDetector).map((az) => [az.name, az]));
    for (const name of watched.keys()) if (!detected.has(name)) this.#unwatch(text, name);
    for (const [name, az] of detected) {
      const { probe, holdDownMs, flap, autoRecover } = az.config;
      const settings = JSON.stringify({ probe, holdDownMs, flap, autoRecover });
      const known = watched.get(name);
      if (known?.settings === settings) {
        known.watch.noteState(watchedState(az), stateForMs(az));
        continue;
      }
      this.#unwatch(text, name);
      watched.set(name, { watch: this.#newWatch(device, az), settings });
    }
  }

  #newWatch(device: DeviceId, az: AzStatus): AzWatch {
    const { probe } = az.config;
    const life = new SignsOfLife(az.name);
    const options = {
      probe: probe ?? null,
      policy: policyOf(az.config),
      state: watchedState(az),
      stateForMs: stateForMs(az),
    };
    return new AzWatch(options, {
      probe: (target, signal) => this.#prober({ netns: device.netns, probe: probe!, target, signal }),
      signs: () => this.#signs(device, life),
      now: this.#now,
      perform: (decision, evidence, isAgain) => this.#perform(device, az.name, { decision, evidence, isAgain }),
      onImpossible: (target, error) => this.#tell('az.probe_impossible', device, { az: az.name, target, error }),
    });
  }

  #signs(device: DeviceId, life: SignsOfLife): Sign[] {
    try {
      return this.#controller.readDevice(device, (attached) => life.look(attached));
    } catch {
      // It vanished, or cannot be read now.
      return [{ name: 'device', alive: false }];
    }
  }

  #perform(device: DeviceId, az: string, { decision, evidence, isAgain }: Due): Outcome {
    try {
      const done = this.#controller.withDevice(device, (attached) => changeAz(attached, az, decision, evidence));
      if (done === null) return 'outdated';
      const { change, cause } = done;
      const { moved, collateral } = change.plan.summary;
      this.#tell(decision === 'fail' ? 'az.failed' : 'az.recovered', device, {
        az,
        cause,
        moved,
        collateral,
        commitNs: change.commitNs,
        ...asData(evidence),
      });
      return 'done';
    } catch (error) {
      this.#tellRefusal(device, az, { decision, evidence, isAgain }, error);
      return 'refused';
    }
  }

  /** Once for each reason. */
  #tellRefusal(device: DeviceId, az: string, { decision, evidence, isAgain }: Due, thrown: unknown): void {
    const key = `${deviceText(device)} ${az}`;
    const isKnown = thrown instanceof VnicError;
    const error = isKnown ? thrown : new VnicError('failed', `Unexpected: ${String(thrown)}`, { cause: thrown });
    const { code, message, remedy = null } = error;
    const reason = `${code} ${message}`;
    if (isAgain && this.#refused.get(key) === reason) return;
    this.#refused.set(key, reason);
    const type = decision === 'fail' ? 'az.fail_refused' : 'az.recover_refused';
    this.#tell(type, device, { az, cause: 'probe', code, message, remedy, ...asData(evidence) });
  }

  #tell(type: string, device: DeviceId, data: Record<string, unknown>): void {
    this.#publish({ type, device: deviceText(device), data });
  }

  /** Ends all probes. */
  stop(): void {
    for (const text of this.#watched.keys()) this.#drop(text);
  }
}

function hasDetector({ config: { probe, silenceMs, bfd } }: AzStatus): boolean {
  return probe !== undefined || silenceMs !== undefined || bfd !== undefined;
}

/** Null: it is not in the state any more that was decided on. `cause`: of the failure. */
function changeAz(
  attached: AttachedDevice,
  name: string,
  decision: Decision,
  evidence: Evidence,
): { change: AzChange; cause: FailoverCause } | null {
  const az = attached.azs().find((candidate) => candidate.name === name);
  if (az === undefined || watchedState(az) !== (decision === 'fail' ? 'up' : 'failed')) return null;
  if (decision === 'recover') return { change: attached.recoverAz(name), cause: az.cause ?? 'probe' };
  return { change: attached.failAz(name, { cause: 'probe', evidence: evidenceText(evidence) }), cause: 'probe' };
}

function asData(evidence: Evidence): Record<string, unknown> {
  const { penalty, targets, signs } = evidence;
  return { evidence: evidenceText(evidence), penalty, targets, signs };
}

function watchedState({ state, cause }: AzStatus): WatchedState {
  if (state === 'up') return 'up';
  return cause === 'manual' || cause === 'fleet' ? 'held' : 'failed';
}

/** By the clock on the wall, which may have been set meanwhile. */
function stateForMs({ since }: AzStatus): number {
  return since === null ? 0 : Math.max(0, Date.now() - Date.parse(since));
}
