// SPDX-License-Identifier: Apache-2.0
/** Probes the targets of one AZ in turn, looks for its signs of life, and acts on what is decided of it. */
import { formatTarget } from '../config/probes.ts';
import type { AzProbe, ProbeTarget } from '../steering/azs.ts';
import {
  type AzHealth,
  afterFailure,
  afterOutsideChange,
  afterRecovery,
  afterRefusal,
  afterResult,
  afterSigns,
  type Decision,
  decide,
  type HealthPolicy,
  newAzHealth,
  type Sign,
  type WatchedState,
} from './az-health.ts';
import { type Evidence, evidenceOf } from './evidence.ts';
import type { ProbeResult } from './run-probe.ts';

/** done: the AZ is failed, or recovered; refused: not now; outdated: somebody else changed it meanwhile. */
export type Outcome = 'done' | 'refused' | 'outdated';

export interface WatchPorts {
  /** Never rejects. */
  probe(target: ProbeTarget, signal: AbortSignal): Promise<ProbeResult>;
  /** What a failed AZ must show before it is used again; called every SIGNS_INTERVAL_MS. Never throws. */
  signs(): readonly Sign[];
  /** Monotonic, ms. */
  now(): number;
  /** Never throws. @param isAgain the same was refused before, and has been due since */
  perform(decision: Decision, evidence: Evidence, isAgain: boolean): Outcome;
  /** Told once when probes of the target cannot be made, and again after some could. */
  onImpossible(target: string, error: string): void;
}

const SIGNS_INTERVAL_MS = 100;

/** Timers, and the switch behind the last of them, come so much late; what it takes to find an AZ dead adds up from several. */
const TIMER_LATENESS_MS = 2;

export interface WatchOptions {
  /** Null: the AZ is found dead by the kernel alone. */
  probe: AzProbe | null;
  policy: HealthPolicy;
  state: WatchedState;
  stateForMs: number;
}

export class AzWatch {
  readonly #probe: AzProbe | null;
  readonly #targets: readonly ProbeTarget[];
  readonly #looking: NodeJS.Timeout;
  readonly #policy: HealthPolicy;
  readonly #ports: WatchPorts;
  readonly #stopped = new AbortController();
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Targets whose probes cannot be made. */
  readonly #impossible = new Set<string>();
  #health: AzHealth;

  constructor({ probe, policy, state, stateForMs }: WatchOptions, ports: WatchPorts) {
    this.#probe = probe;
    this.#policy = policy;
    this.#ports = ports;
    this.#targets = probe?.targets ?? [];
    this.#health = newAzHealth(this.#targets.map(formatTarget), state, ports.now(), stateForMs);
    // Not all at once.
    for (const index of this.#targets.keys()) {
      this.#schedule(index, (probe!.intervalMs * index) / this.#targets.length);
    }
    this.#looking = setInterval(() => this.#look(), SIGNS_INTERVAL_MS);
  }

  get health(): AzHealth {
    return this.#health;
  }

  /** Takes over what somebody else made of the AZ; does nothing where it is what is known here. */
  noteState(state: WatchedState, stateForMs: number): void {
    if (state === this.#health.state) return;
    this.#health = afterOutsideChange(this.#health, state, this.#policy, this.#ports.now(), stateForMs);
  }

  stop(): void {
    this.#stopped.abort();
    clearInterval(this.#looking);
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #look(): void {
    if (this.#health.state === 'up') return;
    this.#health = afterSigns(this.#health, this.#ports.signs());
    this.#act();
  }

  #schedule(index: number, waitMs: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      void this.#run(index);
    }, waitMs);
    this.#timers.add(timer);
  }

  async #run(index: number): Promise<void> {
    const startMs = this.#ports.now();
    const result = await this.#ports.probe(this.#targets[index]!, this.#stopped.signal);
    if (this.#stopped.signal.aborted) return;
    this.#take(index, result);
    // What it did may have stopped this.
    if (this.#stopped.signal.aborted) return;
    this.#schedule(index, Math.max(0, startMs + this.#probe!.intervalMs - TIMER_LATENESS_MS - this.#ports.now()));
  }

  #take(index: number, result: ProbeResult): void {
    const { name } = this.#health.targets[index]!;
    if (result.kind === 'unknown') {
      if (result.error !== null && !this.#impossible.has(name)) {
        this.#impossible.add(name);
        this.#ports.onImpossible(name, result.error);
      }
    } else {
      this.#impossible.delete(name);
      const error = result.kind === 'failure' ? result.error : null;
      this.#health = afterResult(this.#health, index, { error }, this.#policy, this.#ports.now());
    }
    this.#act();
  }

  #act(): void {
    const nowMs = this.#ports.now();
    const decision = decide(this.#health, this.#policy, nowMs);
    if (decision === null) return;
    const isAgain = this.#health.refusedAtMs !== null;
    const outcome = this.#ports.perform(decision, evidenceOf(this.#health, this.#policy, nowMs), isAgain);
    if (outcome === 'outdated') return;
    const doneMs = this.#ports.now();
    if (outcome === 'refused') this.#health = afterRefusal(this.#health, doneMs);
    else if (decision === 'fail') this.#health = afterFailure(this.#health, this.#policy, doneMs);
    else this.#health = afterRecovery(this.#health, doneMs);
  }
}
