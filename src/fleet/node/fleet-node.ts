// SPDX-License-Identifier: Apache-2.0
/**
 * A machine as a node of a fleet: hears what is asked for, brings its devices to it, and reports. What it knows is on disk;
 * while the store is away it goes on with that, and nothing is undone because something cannot be read.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { StateFiles } from '../../app/records/files.ts';
import { VnicError } from '../../errors.ts';
import { FleetKeys } from '../core/keys.ts';
import type { Quorum } from '../core/quorum.ts';
import { type AzAction, planAzs, planPolicy, seenAliveOf } from '../core/reconcile.ts';
import type { Labels } from '../core/selector.ts';
import { emptyState, type FleetState, readState } from '../core/state.ts';
import { type CandidateValue, FLEET_VERSION, type NodeStatus, problemOf, type SpecValue } from '../core/values.ts';
import type { FleetStore } from '../store.ts';
import { performAzActions, performReplacements } from './converge.ts';
import { type LastKnown, LastKnownFile } from './last-known.ts';
import { type Desired, NodePolicies } from './policies.ts';
import type { DeviceView, FleetEvent, NodeDevices } from './ports.ts';
import { runSession } from './session.ts';
import { StatusKey } from './status-key.ts';
import { TrafficMeter } from './traffic.ts';
import { Troubles } from './troubles.ts';
import { Witness } from './witness.ts';

export interface NodeSettings {
  prefix: string;
  node: string;
  labels: Labels;
  quorum: Quorum;
  mendDrift: boolean;
}

export interface FleetNodeOptions {
  settings: NodeSettings;
  /** Of vnicctl. */
  version: string;
  devices: NodeDevices;
  files: StateFiles;
  /** Members of the store; they are tried in turn, each node beginning with another one. */
  stores: readonly (() => FleetStore)[];
  publish: (event: FleetEvent) => void;
  timings?: { lookMs?: number; checkMs?: number; retryMs?: number };
}

/** What the daemon tells of its fleet. */
export interface FleetView extends Omit<NodeStatus, 'version' | 'traffic'> {
  prefix: string;
  connected: boolean;
  /** The member that is asked now. */
  endpoint: string | null;
  /** Since the store was heard of; null: never. */
  lastSyncAgeSeconds: number | null;
  declarations: {
    az: string;
    by: 'operator' | 'quorum';
    who: string;
    reason: string;
    since: string;
    witnesses: string[];
  }[];
}

const LOOK_MS = 2000;
/** While a policy is on trial here. */
const TRIAL_LOOK_MS = 500;
const RETRY_MS = 200;
const MAX_RETRY_MS = 2000;

export class FleetNode {
  readonly #options: FleetNodeOptions;
  readonly #keys: FleetKeys;
  readonly #file: LastKnownFile;
  readonly #policies: NodePolicies;
  readonly #witness: Witness;
  readonly #statusKey: StatusKey;
  readonly #meter = new TrafficMeter();
  readonly #abort = new AbortController();
  readonly #troubles: Troubles;
  #known: LastKnown;
  #state: FleetState = emptyState;
  #observed: readonly DeviceView[] = [];
  #drift: readonly string[] = [];
  #store: FleetStore | null = null;
  #endpoint: string | null = null;
  #lease: string | null = null;
  #heardMs: number | null = null;
  #isDirty = false;
  /** Done when what was declared down last is out of use, or refused. */
  #urgent: Promise<void> = Promise.resolve();
  #converging: Promise<void> | null = null;
  #sessions: Promise<void> = Promise.resolve();
  #looking: NodeJS.Timeout | undefined;

  constructor(options: FleetNodeOptions) {
    const { settings, files, publish } = options;
    this.#options = options;
    this.#troubles = new Troubles(publish);
    this.#keys = new FleetKeys(settings.prefix);
    this.#file = new LastKnownFile(files, settings.prefix);
    this.#policies = new NodePolicies(this.#keys, this.#file, settings.labels);
    this.#witness = new Witness({ keys: this.#keys, node: settings.node, quorum: settings.quorum });
    this.#statusKey = new StatusKey(this.#keys, settings.node);
    this.#known = this.#file.read((file, reason) => this.#troubles.tell('fleet.state_damaged', { file, reason }));
    const { spec, candidate, declarations } = this.#known;
    this.#state = { ...emptyState, spec, candidate, declarations: new Map(declarations.map((one) => [one.az, one])) };
  }

  start(): void {
    this.#sessions = this.#runSessions();
    this.kick();
  }

  /** Devices changed, or may have: look at them soon. */
  kick(): void {
    this.#isDirty = true;
    this.#converging ??= this.#convergeWhileDirty().finally(() => {
      this.#converging = null;
    });
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    clearTimeout(this.#looking);
    const store = this.#store;
    if (store !== null && this.#lease !== null) await store.revokeLease(this.#lease).catch(() => undefined);
    store?.close();
    await Promise.allSettled([this.#sessions, this.#converging, this.#urgent]);
    clearTimeout(this.#looking);
  }

  view(): FleetView {
    const { version: _, traffic: __, ...status } = this.#status();
    return {
      prefix: this.#keys.prefix,
      connected: this.#store !== null,
      endpoint: this.#endpoint,
      lastSyncAgeSeconds: this.#heardMs === null ? null : (performance.now() - this.#heardMs) / 1000,
      ...status,
      declarations: [...this.#state.declarations.values()].map(({ az, by, who, reason, since, witnesses }) => {
        return { az, by, who, reason, since, witnesses };
      }),
    };
  }

  // --- the store ---------------------------------------------------------------

  async #runSessions(): Promise<void> {
    const { stores, settings, timings } = this.#options;
    const { signal } = this.#abort;
    let retryMs = timings?.retryMs ?? RETRY_MS;
    // Nodes begin with different members, whatever order their configurations have.
    for (let turn = sumOf(settings.node); !signal.aborted; turn++) {
      const store = stores[turn % stores.length]!();
      this.#endpoint = store.name;
      try {
        await this.#runSession(store, () => {
          retryMs = timings?.retryMs ?? RETRY_MS;
        });
      } catch (error) {
        if (!signal.aborted) this.#disconnected(error);
      } finally {
        this.#store = null;
        store.close();
      }
      if (!signal.aborted) await sleep(retryMs * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined);
      retryMs = Math.min(MAX_RETRY_MS, retryMs * 2);
    }
  }

  #runSession(store: FleetStore, onConnected: () => void): Promise<void> {
    const { checkMs } = this.#options.timings ?? {};
    return runSession({
      store,
      prefix: this.#keys.state,
      lease: this.#lease,
      signal: this.#abort.signal,
      ...(checkMs === undefined ? {} : { checkMs }),
      heard: () => {
        this.#heardMs = performance.now();
      },
      changed: (values) => {
        // Its policy is fetched from the member that told of it.
        this.#store = store;
        this.#take(readState(this.#keys, values, this.#state));
      },
      established: async (lease, isNew) => {
        this.#lease = lease;
        this.#statusKey.doubt();
        onConnected();
        this.#troubles.set('store', []);
        this.#troubles.over('store');
        this.#troubles.tell('fleet.connected', { endpoint: store.name, newLease: isNew });
        this.kick();
      },
    });
  }

  #disconnected(error: unknown): void {
    this.#troubles.set('store', [problemOf(error)]);
    const { code, message, remedy } = problemOf(error);
    this.#troubles.tellOnce('store', code, 'fleet.disconnected', { code, message, remedy });
  }

  #take(state: FleetState): void {
    const before = this.#state.declarations;
    this.#state = state;
    for (const [az, { by, who, reason }] of state.declarations) {
      if (!before.has(az)) this.#troubles.tell('fleet.az_declared', { az, by, who, reason });
    }
    if ([...state.declarations.keys()].some((az) => !before.has(az))) this.#failDeclared();
    for (const az of before.keys()) if (!state.declarations.has(az)) this.#troubles.tell('fleet.az_withdrawn', { az });
    this.kick();
  }

  // --- the devices ---------------------------------------------------------------

  async #convergeWhileDirty(): Promise<void> {
    while (this.#isDirty && !this.#abort.signal.aborted) {
      this.#isDirty = false;
      clearTimeout(this.#looking);
      try {
        await this.#converge();
      } catch (error) {
        this.#troubles.tellOnce('converge', String(error), 'fleet.failed', { ...problemOf(error) });
      }
    }
    if (this.#abort.signal.aborted) return;
    const ms = this.#options.timings?.lookMs ?? (this.#candidate() === null ? LOOK_MS : TRIAL_LOOK_MS);
    this.#looking = setTimeout(() => this.kick(), ms);
  }

  async #converge(): Promise<void> {
    await this.#look();
    await this.#convergeAzs();
    await this.#convergePolicy();
    this.#remember();
    await this.#report();
  }

  async #look(): Promise<void> {
    let urgent: Promise<void>;
    do {
      urgent = this.#urgent;
      await urgent;
      this.#observed = await this.#options.devices.look();
    } while (urgent !== this.#urgent);
    this.#meter.note(this.#observed, performance.now());
  }

  #planAzs(): AzAction[] {
    const { node } = this.#options.settings;
    const situation = { observed: this.#observed, declarations: this.#state.declarations };
    const seenAlive = seenAliveOf(node, { ...situation, seenAlive: new Set(this.#known.seenAlive) });
    this.#known = { ...this.#known, seenAlive: [...seenAlive] };
    return planAzs({ ...situation, seenAlive });
  }

  /** What is declared down just now waits neither for a look at the devices nor for what the node is at. */
  #failDeclared(): void {
    const actions = this.#planAzs().filter(({ kind }) => kind === 'fail');
    const before = this.#urgent;
    // One that is refused is tried again, and told of, with the whole plan.
    if (actions.length > 0)
      this.#urgent = before.then(async () => void (await performAzActions(this.#options.devices, actions)));
  }

  async #convergeAzs(): Promise<void> {
    const actions = this.#planAzs();
    const problems = await performAzActions(this.#options.devices, actions);
    this.#troubles.set('azs', problems);
    for (const { code, message, remedy } of problems) {
      this.#troubles.tellOnce(`azs ${message}`, code, 'fleet.az_refused', { code, message, remedy });
    }
    if (problems.length === 0) this.#troubles.over('azs ');
    if (actions.length > 0) await this.#look();
  }

  #candidate(): CandidateValue | null {
    const { candidate } = this.#state;
    return candidate?.nodes.includes(this.#options.settings.node) === true ? candidate : null;
  }

  /** What is meant for this node. */
  #target(): SpecValue | null {
    return this.#candidate() ?? this.#state.spec;
  }

  async #convergePolicy(): Promise<void> {
    const target = this.#target();
    if (target === null) return;
    const start = performance.now();
    try {
      const desired = await this.#policies.get(target, this.#store);
      if (desired === null) throw notThere(target);
      await this.#putIntoEffect(target, desired, start);
      this.#troubles.set('policy', []);
      this.#troubles.over('policy');
    } catch (error) {
      const problem = problemOf(error);
      this.#troubles.set('policy', [problem]);
      const { code, message, remedy } = problem;
      this.#troubles.tellOnce('policy', `${target.revision} ${message}`, 'fleet.refused', {
        revision: target.revision,
        code,
        message,
        remedy,
      });
      await this.#keepInEffect();
    }
  }

  async #putIntoEffect(target: SpecValue, desired: Desired, start: number): Promise<void> {
    const tags = await this.#replace(desired);
    const before = this.#known.applied;
    const canary = this.#candidate() !== null;
    const devices = Object.fromEntries(
      [...desired].map(([name, { hash }]) => [name, { hash, tag: tags.get(name) ?? before?.devices[name]?.tag ?? '' }]),
    );
    const isNew = before?.revision !== target.revision || before.canary !== canary;
    this.#known = { ...this.#known, applied: { revision: target.revision, canary, sha256: target.sha256, devices } };
    if (!isNew) return;
    this.#meter.begin();
    const ms = performance.now() - start;
    this.#troubles.tell('fleet.applied', {
      revision: target.revision,
      canary,
      devices: [...tags.keys()],
      ms: Math.round(ms),
    });
  }

  /** A policy that was refused changes nothing; what others change against the one before it is still looked after. */
  async #keepInEffect(): Promise<void> {
    const { applied } = this.#known;
    const desired = applied === null ? null : this.#policies.known(applied.sha256);
    if (applied === null || desired === null) return;
    try {
      const tags = await this.#replace(desired);
      for (const [name, tag] of tags) applied.devices[name] = { hash: desired.get(name)!.hash, tag };
    } catch {
      // What is wrong with the newer one is said already.
    }
  }

  async #replace(desired: Desired): Promise<Map<string, string>> {
    const applied = new Map(Object.entries(this.#known.applied?.devices ?? {}));
    const { mendDrift } = this.#options.settings;
    const plan = planPolicy({ desired, applied, observed: this.#observed, mendDrift });
    this.#drift = plan.drift;
    if (plan.drift.length > 0) {
      this.#troubles.tellOnce('drift', plan.drift.join(), 'fleet.drift', { devices: plan.drift, mended: mendDrift });
    } else {
      this.#troubles.over('drift');
    }
    if (plan.missing.length > 0) {
      const message = `The policy is for ${plan.missing.join(', ')}, which ${plan.missing.length === 1 ? 'is' : 'are'} not attached here.`;
      throw new VnicError('not_found', message, { remedy: 'Attach it, or select other nodes for it.' });
    }
    if (plan.replace.length === 0) return new Map();
    // What is about to take effect is on disk before.
    this.#remember();
    const tags = await performReplacements(this.#options.devices, plan.replace);
    if (plan.drift.length > 0 && mendDrift) this.#drift = [];
    // AZs that came with it may be declared down.
    if (this.#state.declarations.size > 0) this.#isDirty = true;
    return tags;
  }

  #remember(): void {
    const { spec, candidate, declarations } = this.#state;
    this.#known = { ...this.#known, spec, candidate, declarations: [...declarations.values()] };
    try {
      this.#file.write(this.#known);
      const kept = [spec, candidate, this.#known.applied].flatMap((one) => (one === null ? [] : [one.sha256]));
      this.#policies.keep(kept);
      this.#troubles.set('disk', []);
    } catch (error) {
      this.#troubles.set('disk', [problemOf(error)]);
      this.#troubles.tellOnce('disk', String(error), 'fleet.failed', { ...problemOf(error) });
    }
  }

  // --- reports ---------------------------------------------------------------------

  /** Tells the store what this node sees and is. Without the store it is told later. */
  async #report(): Promise<void> {
    const store = this.#store;
    const lease = this.#lease;
    if (store === null || lease === null) return;
    const { node } = this.#options.settings;
    const { evidence, declarations } = this.#state;
    try {
      const told = evidence.filter((one) => one.node === node);
      await this.#statusKey.write(store, lease, this.#status());
      await this.#witness.tell(store, lease, { observed: this.#observed, told, declarations });
      this.#troubles.set('status', []);
      this.#troubles.over('status');
    } catch (error) {
      const problem = problemOf(error);
      // The session notices by itself, and begins anew.
      if (problem.code === 'fleet_unreachable' || this.#store !== store) return;
      this.#troubles.set('status', [problem]);
      this.#troubles.tellOnce('status', problem.message, 'fleet.report_failed', { ...problem });
    }
  }

  #status(): NodeStatus {
    const { settings, version } = this.#options;
    const { applied, instance } = this.#known;
    const isTrial = this.#candidate() !== null;
    return {
      version: FLEET_VERSION,
      node: settings.node,
      instance,
      vnicctl: version,
      labels: { ...settings.labels },
      specRevision: this.#target()?.revision ?? null,
      appliedRevision: applied?.revision ?? null,
      canary: applied?.canary ?? false,
      drift: [...this.#drift],
      problems: [...this.#state.problems, ...this.#troubles.all()],
      azs: this.#observed.flatMap(({ name: device, azs }) =>
        azs.map(({ name: az, state, cause }) => ({ device, az, state, cause })),
      ),
      traffic: isTrial ? this.#meter.report() : null,
    };
  }
}

function notThere({ revision }: SpecValue): VnicError {
  return new VnicError('fleet_unreachable', `The policy of revision ${revision} could not be fetched yet.`, {
    remedy: 'It is fetched when etcd answers.',
  });
}

function sumOf(text: string): number {
  return Buffer.from(text).reduce((sum, byte) => (sum * 31 + byte) >>> 0, 0);
}
