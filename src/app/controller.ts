// SPDX-License-Identifier: Apache-2.0
/**
 * Everything that can be asked of the product, as functions over plain data. The command line calls it; whoever changes
 * something holds the lock for the whole operation, so two commands never interleave.
 */
import path from 'node:path';
import { VnicError } from '../errors.ts';
import { type Link, linksIn } from '../loader/device-watch.ts';
import type { Native } from '../loader/ffi/index.ts';
import { FileLock } from '../loader/lock.ts';
import { type DeviceId, deviceText, PinFolder, pinnedDevices } from '../loader/pins.ts';
import { diagnose, type Finding } from '../loader/preflight/index.ts';
import { rxQueuesOf } from '../loader/preflight/rules/queues.ts';
import { VnicLimits } from '../maps/generated/abi.ts';
import { chooseRedirect, type RedirectChoice } from '../steering/redirect.ts';
import type { DeviceSample } from '../telemetry/metrics/sample.ts';
import { LINK_XDP, performAttach } from './attach.ts';
import { prepareAttach } from './attach-plan.ts';
import { type AttachRequest, type AttachResult, refuseCopies, requestOf } from './attach-request.ts';
import { AttachedDevice } from './attached-device.ts';
import { Dataplane } from './dataplane.ts';
import { DeviceModel } from './device-model.ts';
import type { Drift } from './drift.ts';
import { Leftovers } from './leftovers.ts';
import { MachineTelemetry } from './machine-telemetry.ts';
import { defaultEgress } from './new-record.ts';
import { OpenDevices } from './open-devices.ts';
import { type DamageReport, RecordStore, recordConfig } from './record.ts';
import { factsOf, redirectFacts } from './redirect-facts.ts';
import { dueText } from './redirecting.ts';
import { Settlement } from './settlement.ts';
import { DeviceTuning, type Released } from './tuning/device-tuning.ts';
import { type UpgradeReport, upgradeDataplane } from './upgrade.ts';

export interface ControllerOptions {
  native: Native;
  /** Records live here. */
  stateFolder: string;
  /**
   * The lock lives here; default /run/vnic. It guards the pins, which are the machine's: everybody who uses the same
   * bpffs must use the same lock.
   */
  runFolder?: string;
  lockTimeoutMs?: number;
  /** Holds devices open between operations: for a process that lives long and is alone on its state. */
  keepOpen?: boolean;
  /** Told of every state file that could not be read. */
  onDamage?: (report: DamageReport) => void;
}

const LOCK_TIMEOUT_MS = 10_000;
const RUN_FOLDER = '/run/vnic';

export class Controller {
  readonly native: Native;
  readonly records: RecordStore;
  readonly telemetry: MachineTelemetry;
  readonly tuning: DeviceTuning;
  readonly #lockFile: string;
  readonly #lockTimeoutMs: number;
  readonly #leftovers: Leftovers;
  readonly #open: OpenDevices | null;
  #hasLock = false;
  /** Recorded devices that are there, as of the last time that this process had the lock: a daemon has it every second. */
  #present: DeviceId[] | null = null;
  readonly #settlement: Settlement;

  constructor(options: ControllerOptions) {
    this.native = options.native;
    this.records = new RecordStore(options.stateFolder, options.onDamage);
    this.telemetry = new MachineTelemetry(options.native);
    this.tuning = new DeviceTuning(options.native, options.stateFolder);
    this.#leftovers = new Leftovers(options.native, this.records);
    this.#open = options.keepOpen === true ? new OpenDevices() : null;
    const { native } = options;
    const { records, tuning } = this;
    const parts = { native, records, tuning, leftovers: this.#leftovers, open: this.#open };
    this.#settlement = new Settlement(parts);
    this.#lockFile = path.join(options.runFolder ?? RUN_FOLDER, 'vnicctl.lock');
    this.#lockTimeoutMs = options.lockTimeoutMs ?? LOCK_TIMEOUT_MS;
  }

  /** Holds the lock while `action` runs, after clearing away what a killed command left. */
  locked<T>(action: () => T): T {
    if (this.#hasLock) return action();
    using _lock = FileLock.acquire(this.native, this.#lockFile, this.#lockTimeoutMs);
    return this.#holding(action);
  }

  /** As `locked`, but does nothing and gives null while somebody else has the lock: the thread does not wait. */
  lockedIfFree<T>(action: () => T): T | null {
    const lock = FileLock.tryAcquire(this.native, this.#lockFile);
    if (!(lock instanceof FileLock)) return null;
    using _lock = lock;
    return this.#holding(action);
  }

  #holding<T>(action: () => T): T {
    this.#settlement.settleAll();
    this.#hasLock = true;
    try {
      return action();
    } finally {
      this.#hasLock = false;
      this.#present = null;
    }
  }

  pins(device: DeviceId): PinFolder {
    return new PinFolder(this.native, device);
  }

  /** Attached devices, by name. */
  devices(): DeviceId[] {
    return pinnedDevices();
  }

  isAttached(device: DeviceId): boolean {
    return this.pins(device).exists(LINK_XDP);
  }

  /** What would block or degrade attaching. Changes nothing. Throws `not_found` for an unknown namespace. */
  doctor(
    device: DeviceId,
    options: { mode: 'native' | 'generic'; queues?: number },
  ): { findings: Finding[]; redirect: RedirectChoice | null } {
    const facts = factsOf(this.native, device);
    const findings = diagnose(facts, options);
    if (facts.link === null) return { findings, redirect: null };
    const queues = options.queues ?? Math.min(rxQueuesOf(facts.link), VnicLimits.maxQueues);
    const settings = { mode: options.mode, egress: defaultEgress(), queues };
    return { findings, redirect: chooseRedirect('auto', redirectFacts(this.native, facts, { device, settings })) };
  }

  /**
   * Attaches, or says what attaching would do. Throws `conflict` when the device is attached already, and what
   * preflight refuses, before anything is touched.
   */
  attach(device: DeviceId, request: AttachRequest): AttachResult {
    return this.locked(() => {
      refuseCopies(request);
      this.#requireSettled(device);
      this.#settlement.settleForeign(device);
      if (this.isAttached(device)) {
        throw new VnicError('conflict', `${deviceText(device)} is attached already.`, {
          remedy: `See vnicctl status ${asArguments(device)}; to change how it is attached, detach first.`,
        });
      }
      const pins = this.pins(device);
      const { native, records, tuning } = this;
      const { input, actions, result } = prepareAttach({ native, records, tuning, pins }, device, request);
      if (result.performed) performAttach(input, actions, { native, pins, records }).close();
      return result;
    });
  }

  /** Detaches, and puts back what attaching and tuning changed. `force`: whatever the pins are, and over others' settings. */
  detach(device: DeviceId, force = false): Released {
    return this.locked(() => {
      if (!this.isAttached(device)) throw notAttached(device);
      this.#open?.drop(device);
      if (!force) {
        this.#requireSettled(device);
        using _dataplane = Dataplane.open(this.native, this.pins(device));
      }
      this.tuning.end(device);
      this.#leftovers.takeOff(device);
      const released = this.tuning.restore(device, undefined, force);
      this.records.remove(device);
      return released;
    });
  }

  /** Names of the pins that detach would remove. Throws `not_found`. */
  describeDetach(device: DeviceId): string[] {
    if (!this.isAttached(device)) throw notAttached(device);
    return this.pins(device).names();
  }

  /** Throws what kept the device's leftovers from being cleared away. */
  #requireSettled(device: DeviceId): void {
    const failure = this.#settlement.failureOf(device);
    if (failure !== undefined) throw failure;
  }

  /** Opens an attached device for one operation. Throws `not_found`, `abi_mismatch`, `state_damaged`. */
  open(device: DeviceId): AttachedDevice {
    this.#requireSettled(device);
    if (!this.isAttached(device)) throw notAttached(device);
    const record = this.records.read(device);
    if (record === null) throw this.#recordMissing(device);
    const config = recordConfig(record);
    const dataplane = Dataplane.open(this.native, this.pins(device));
    const model = DeviceModel.of(config, record.settings.queueCpus);
    return new AttachedDevice({
      dataplane,
      record,
      config,
      model,
      records: this.records,
      pins: this.pins(device),
      telemetry: this.telemetry,
    });
  }

  #recordMissing(device: DeviceId): VnicError {
    return new VnicError('state_damaged', `${deviceText(device)} is attached, but its record is missing.`, {
      remedy: `Detach it with: vnicctl detach ${asArguments(device)} --force; then attach it again.`,
      details: { keptAside: this.records.damaged(device) },
    });
  }

  /** Runs `action` on the open device, under the lock. */
  withDevice<T>(device: DeviceId, action: (device: AttachedDevice) => T): T {
    return this.locked(() => {
      if (this.#open === null) {
        using attached = this.open(device);
        return action(attached);
      }
      try {
        return action(this.#openKept(this.#open, device));
      } catch (error) {
        // What is in memory may not be what is on disk and in the kernel.
        if (!(error instanceof VnicError) || interrupting.has(error.code)) this.#open.drop(device);
        throw error;
      }
    });
  }

  /**
   * Runs `action`, which only reads, on the device. A process that holds it open need not wait for the lock: a command that
   * attaches another device has it for a second.
   */
  readDevice<T>(device: DeviceId, action: (device: AttachedDevice) => T): T {
    const known = this.#open?.get(this.pins(device)) ?? null;
    return known === null ? this.withDevice(device, action) : action(known);
  }

  #openKept(open: OpenDevices, device: DeviceId): AttachedDevice {
    const pins = this.pins(device);
    const known = open.get(pins);
    if (known !== null) return known;
    const opened = this.open(device);
    // The first switch may be that of a zone that is dying.
    opened.tables.rehearse();
    opened.beginMeasuring();
    open.put(pins, opened);
    return opened;
  }

  /** Attached and recorded devices, by name. */
  summaries(): DeviceSummary[] {
    // A process that lives long clears up after others every now and then; a command does it now.
    return this.#open === null ? this.locked(() => this.#summaries()) : this.#summaries();
  }

  #summaries(): DeviceSummary[] {
    const recorded = new Map(this.records.devices().map((device) => [deviceText(device), device]));
    const known = new Map([...this.devices().map((device) => [deviceText(device), device] as const), ...recorded]);
    return [...known]
      .map(([text, device]): DeviceSummary => {
        const error = this.#settlement.failureOf(device);
        if (error !== undefined) return { device, state: 'failed', error: asFailure(error) };
        if (!this.isPresent(device)) return { device, state: 'gone', error: null };
        if (!recorded.has(text)) return { device, state: 'failed', error: this.#recordMissing(device) };
        return { device, state: 'attached', error: null };
      })
      .sort((a, b) => deviceText(a.device).localeCompare(deviceText(b.device)));
  }

  /** What the metrics say of every device that is there. One that cannot be read is left out: its status says why. */
  samples(): DeviceSample[] {
    this.#present ??= this.records.devices().filter((device) => this.isPresent(device));
    return this.#present.flatMap((device) => {
      try {
        return [this.readDevice(device, (attached) => attached.sample())];
      } catch (error) {
        if (error instanceof VnicError) return [];
        throw error;
      }
    });
  }

  /** Whether the device is attached and there. */
  isPresent(device: DeviceId): boolean {
    return this.isAttached(device) && this.#leftovers.attachedIfindex(device) !== null;
  }

  /** Whether the named device exists, attached or not. */
  exists(device: DeviceId): boolean {
    return this.links(device.netns).has(device.name);
  }

  /** Network devices of a namespace; none where the namespace is gone. */
  links(netns: string | null): ReadonlyMap<string, Link> {
    try {
      return linksIn(this.native, netns);
    } catch (error) {
      if (error instanceof VnicError && error.code === 'not_found') return new Map();
      throw error;
    }
  }

  /** Brings the kernel to what is recorded, where it drifted. Throws `not_found` for a device without a record. */
  mend(device: DeviceId, dryRun = false): { drift: Drift[]; actions: string[] } {
    if (this.isPresent(device)) {
      const { drift, actions } = this.withDevice(device, (attached) => {
        const found = attached.drift();
        const actions = attached.mend(found, !dryRun);
        const due = attached.redirecting.due();
        // XPS that came back is drift.
        if (due.kind === 'none' || attached.redirecting.lost().length > 0) return { drift: found, actions };
        if (!dryRun) attached.redirecting.act(due);
        return { drift: found, actions: [...actions, dueText(due)] };
      });
      const renamed = drift.find(({ what }) => what === 'device name')?.kernel;
      const isHere = renamed !== undefined && this.links(device.netns).has(renamed);
      if (!isHere && !drift.some(({ what }) => what === 'egress link')) return { drift, actions };
      const name = isHere ? renamed : device.name;
      if (!dryRun) this.#attachAgain(device, { ...device, name });
      return { drift, actions: [...actions, `attach the device again, as ${name}, with all its programs`] };
    }
    if (this.records.peek(device) === null) throw notAttached(device);
    const drift: Drift[] = [{ what: 'XDP link', spec: 'attached', kernel: 'missing' }];
    if (!dryRun) this.#attachAgain(device);
    return { drift, actions: ['attach the device as it is recorded'] };
  }

  /** As it was attached before. Takes off what is left of that first. */
  #attachAgain(device: DeviceId, as = device): void {
    this.locked(() => {
      const record = this.records.read(device);
      if (record === null) throw notAttached(device);
      if (this.isAttached(device)) {
        this.#open?.drop(device);
        this.#leftovers.takeOff(device);
      }
      this.attach(as, requestOf(record));
      if (as.name !== device.name) this.records.remove(device);
    });
  }

  /** Brings the device to the programs of the object file that this version has, under traffic. */
  upgrade(device: DeviceId): UpgradeReport {
    return this.locked(() => {
      const pins = this.pins(device);
      const record = this.records.peek(device);
      if (record === null || !this.isAttached(device)) throw notAttached(device);
      this.#open?.drop(device);
      const report = upgradeDataplane({ native: this.native, pins, settings: record.settings });
      using attached = this.open(device);
      attached.noteUpgrade(report.objectSha256);
      // virtio_net forgets its RSS table whenever it takes a program.
      if (report.pausesQueues) attached.redirecting.tell();
      return report;
    });
  }

  /** Devices that this process holds open. */
  heldOpen(): AttachedDevice[] {
    return this.#open?.all() ?? [];
  }

  /** Gives back memory that devices held open need for changes only. */
  rest(): void {
    for (const { dataplane } of this.heldOpen()) dataplane.rest();
  }

  /** Closes a device that is gone. Its record stays. */
  forget(device: DeviceId): void {
    this.#open?.drop(device);
  }

  /** Lets go of everything that is held open; what is attached stays. */
  close(): void {
    this.#open?.close();
    this.telemetry.close();
  }
}

export interface DeviceSummary {
  device: DeviceId;
  /** gone: recorded, and attached again when the device comes back. */
  state: 'attached' | 'gone' | 'failed';
  error: VnicError | null;
}

/** Errors after which memory, disk and kernel may differ. */
const interrupting = new Set(['failed', 'kernel_refused', 'state_damaged']);

export function asFailure(error: unknown): VnicError {
  return error instanceof VnicError ? error : new VnicError('failed', String(error), { cause: error });
}

/** A device as vnicctl's command line names it. */
function asArguments({ name, netns }: DeviceId): string {
  return netns === null ? name : `${name} --netns ${netns}`;
}

function notAttached(device: DeviceId): VnicError {
  return new VnicError('not_found', `${deviceText(device)} is not attached.`, {
    remedy: `Attach it with: vnicctl attach ${asArguments(device)}`,
  });
}
