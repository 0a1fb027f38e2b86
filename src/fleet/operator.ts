// SPDX-License-Identifier: Apache-2.0
/** What operators do with a fleet: put a policy into force, try it, take it back, declare AZs down, look at all nodes. */
import { VnicError } from '../errors.ts';
import { packContent, unpackContent } from './core/content.ts';
import { FleetKeys, NAME } from './core/keys.ts';
import { formatPolicy, type Policy } from './core/policy.ts';
import { emptyState, readState } from './core/state.ts';
import {
  type CandidateValue,
  type DeclarationValue,
  decodeValue,
  type EvidenceValue,
  encodeValue,
  FLEET_VERSION,
  type FleetProblem,
  type NodeStatus,
  nodeStatusSchema,
  problemOf,
  type SpecValue,
  specSchema,
} from './core/values.ts';
import type { FleetStore, StoredValue } from './store.ts';

/** Former policies that can be returned to. */
const KEPT_HISTORY = 20;

export interface FleetOverview {
  spec: SpecValue | null;
  candidate: CandidateValue | null;
  declarations: DeclarationValue[];
  evidence: EvidenceValue[];
  nodes: NodeStatus[];
  /** What is below the prefix and cannot be read. */
  problems: FleetProblem[];
}

/** As it was read: a change is made only if it is still so. */
interface Current {
  overview: FleetOverview;
  specAt: number;
  candidateAt: number;
}

export class FleetOperator {
  readonly #store: FleetStore;
  readonly #keys: FleetKeys;
  readonly #who: string;

  /** @param who is shown with what is done */
  constructor(store: FleetStore, prefix: string, who: string) {
    this.#store = store;
    this.#keys = new FleetKeys(prefix);
    this.#who = who;
  }

  async overview(): Promise<FleetOverview> {
    return (await this.#current()).overview;
  }

  async #current(): Promise<Current> {
    const {
      values: [state = [], nodes = []],
    } = await this.#store.read([{ prefix: this.#keys.state }, { prefix: this.#keys.nodes }]);
    const read = readState(this.#keys, new Map(state.map(({ key, value }) => [key, value])), emptyState);
    const problems = [...read.problems];
    const statuses = nodes.flatMap(({ key, value }): NodeStatus[] => {
      try {
        return [decodeValue(nodeStatusSchema, key, value)];
      } catch (error) {
        problems.push(problemOf(error, key));
        return [];
      }
    });
    const at = (key: string): number => state.find((one) => one.key === key)?.modRevision ?? 0;
    const { spec, candidate, declarations, evidence } = read;
    return {
      overview: {
        spec,
        candidate,
        declarations: [...declarations.values()],
        evidence: [...evidence],
        nodes: statuses,
        problems,
      },
      specAt: at(this.#keys.spec),
      candidateAt: at(this.#keys.candidate),
    };
  }

  /** Puts the policy into force on all nodes, in one transaction. Throws `conflict` while another one is on trial. */
  async apply(policy: Policy, rollbackOf: number | null = null): Promise<SpecValue> {
    const current = await this.#current();
    requireNoTrial(current.overview);
    const next = await this.#prepare(current.overview, policy, { rollbackOf });
    await this.#enforce(next, current);
    return next;
  }

  /** Uploads the policy, which nothing names yet; for a trial only for as long as its lease lasts. */
  async #prepare(
    { spec, problems }: FleetOverview,
    policy: Policy,
    { rollbackOf = null, lease }: { rollbackOf?: number | null; lease?: string },
  ): Promise<SpecValue> {
    const damage = problems.find(({ key }) => key === this.#keys.spec);
    if (damage !== undefined) {
      throw new VnicError('fleet_content', damage.message, {
        remedy: `Look at it; etcdctl del ${this.#keys.spec} removes it.`,
      });
    }
    const { sha256, chunks } = packContent(formatPolicy(policy));
    for (const [number, value] of chunks.entries()) {
      const key = this.#keys.chunk(sha256, number);
      // One that is there already, for good, must not end with the lease.
      if (lease === undefined) await this.#store.commit({ puts: [{ key, value }] });
      else await this.#store.commit({ conditions: [{ key, modRevision: 0 }], puts: [{ key, value, lease }] });
    }
    return {
      version: FLEET_VERSION,
      revision: (spec?.revision ?? 0) + 1,
      sha256,
      chunks: chunks.length,
      since: new Date().toISOString(),
      by: this.#who,
      rollbackOf,
    };
  }

  async #enforce(spec: SpecValue, { specAt, candidateAt }: Pick<Current, 'specAt' | 'candidateAt'>): Promise<void> {
    const value = encodeValue(spec);
    const { spec: key, candidate } = this.#keys;
    const done = await this.#store.commit({
      conditions: [
        { key, modRevision: specAt },
        { key: candidate, modRevision: candidateAt },
      ],
      puts: [
        { key, value },
        { key: this.#keys.history(spec.revision), value },
      ],
      deletes: candidateAt === 0 ? [] : [{ key: candidate }],
    });
    if (done === null) throw changedMeanwhile();
    await this.#collect(spec);
  }

  /** Removes old history, and policies that nothing names any more. */
  async #collect(spec: SpecValue): Promise<void> {
    const {
      values: [history = []],
    } = await this.#store.read([{ prefix: this.#keys.histories }]);
    const old = history.slice(0, Math.max(0, history.length - KEPT_HISTORY));
    const kept = new Set([spec.sha256, ...history.slice(old.length).map((one) => hashIn(one))]);
    const unnamed = new Set(old.map((one) => hashIn(one)).filter((sha256) => sha256 !== null && !kept.has(sha256)));
    if (old.length === 0) return;
    await this.#store.commit({
      deletes: [
        ...old.map(({ key }) => ({ key })),
        ...[...unnamed].map((sha256) => ({ prefix: this.#keys.content(sha256!) })),
      ],
    });
  }

  /** Tries the policy on some nodes. Ends with `promote` or `abandon`, or by itself when this process ends. */
  async begin(policy: Policy, nodes: readonly string[], leaseSeconds: number): Promise<Trial> {
    const current = await this.#current();
    requireNoTrial(current.overview);
    const lease = await this.#store.grantLease(leaseSeconds);
    const next = await this.#prepare(current.overview, policy, { lease });
    const candidate: CandidateValue = { ...next, nodes: [...nodes] };
    const { candidate: key, spec } = this.#keys;
    const at = await this.#store.commit({
      conditions: [
        { key, modRevision: 0 },
        { key: spec, modRevision: current.specAt },
      ],
      puts: [{ key, value: encodeValue(candidate), lease }],
    });
    if (at === null) throw changedMeanwhile();
    return {
      candidate,
      keep: () => this.#store.keepLease(lease),
      promote: async () => {
        await this.#prepare(current.overview, policy, {});
        await this.#enforce(next, { specAt: current.specAt, candidateAt: at });
        await this.#store.revokeLease(lease);
        return next;
      },
      abandon: () => this.#store.revokeLease(lease),
    };
  }

  /** Puts a former policy into force again, as a new revision. Throws `not_found`, `conflict`. */
  async rollback(to: number | null): Promise<SpecValue> {
    const { spec } = await this.overview();
    const {
      values: [history = []],
    } = await this.#store.read([{ prefix: this.#keys.histories }]);
    const known = history.flatMap((one) => readable(one) ?? []);
    const target = known.findLast(({ revision }) => (to === null ? revision < (spec?.revision ?? 0) : revision === to));
    if (target === undefined) {
      const what = to === null ? 'There is no policy before the one in force.' : `There is no revision ${to} any more.`;
      throw new VnicError('not_found', what, {
        remedy: `Known: ${known.map(({ revision }) => revision).join(', ') || 'none'}.`,
      });
    }
    return await this.apply(await this.#policyOf(target), target.revision);
  }

  async #policyOf(spec: SpecValue): Promise<Policy> {
    const { parsePolicy } = await import('./core/policy.ts');
    const key = this.#keys.content(spec.sha256);
    const {
      values: [chunks = []],
    } = await this.#store.read([{ prefix: key }]);
    const text = unpackContent(
      spec,
      chunks.map(({ value }) => value),
      key,
    );
    return parsePolicy(JSON.parse(text), `the policy of revision ${spec.revision}`);
  }

  /** Declares the AZ down on all nodes that have it. */
  async failAz(az: string, { reason, force }: { reason: string; force: boolean }): Promise<DeclarationValue> {
    requireName(az);
    const declaration: DeclarationValue = {
      version: FLEET_VERSION,
      az,
      by: 'operator',
      who: this.#who,
      reason,
      since: new Date().toISOString(),
      force,
      witnesses: [],
      needed: 0,
    };
    await this.#store.commit({ puts: [{ key: this.#keys.az(az), value: encodeValue(declaration) }] });
    return declaration;
  }

  /** Takes the declaration back, whoever made it. Throws `not_found`. */
  async recoverAz(az: string): Promise<void> {
    requireName(az);
    const key = this.#keys.az(az);
    const {
      values: [[stored] = []],
    } = await this.#store.read([{ key }]);
    if (stored === undefined) {
      throw new VnicError('not_found', `AZ ${az} is not declared down.`, { remedy: 'See vnicctl fleet status.' });
    }
    await this.#store.commit({ deletes: [{ key }] });
  }
}

export interface Trial {
  candidate: CandidateValue;
  /** @returns false: the trial has ended by itself */
  keep(): Promise<boolean>;
  /** Throws `conflict` where somebody else changed the fleet meanwhile. */
  promote(): Promise<SpecValue>;
  abandon(): Promise<void>;
}

function requireName(az: string): void {
  if (NAME.test(az)) return;
  throw new VnicError('usage', `${JSON.stringify(az)} is not the name of an AZ.`, {
    remedy: 'Use at most 63 letters, digits, dots, hyphens and underscores.',
  });
}

function requireNoTrial({ candidate }: FleetOverview): void {
  if (candidate === null) return;
  throw new VnicError('conflict', `Revision ${candidate.revision} is on trial on ${candidate.nodes.join(', ')}.`, {
    remedy: 'Wait until whoever tries it is done; it ends by itself if they are gone.',
  });
}

function changedMeanwhile(): VnicError {
  return new VnicError('conflict', 'Somebody else changed the fleet at the same time.', {
    remedy: 'Look at vnicctl fleet status, and do it again if it is still right.',
  });
}

function readable({ key, value }: StoredValue): SpecValue | null {
  try {
    return decodeValue(specSchema, key, value);
  } catch {
    return null;
  }
}

function hashIn(stored: StoredValue): string | null {
  return readable(stored)?.sha256 ?? null;
}
