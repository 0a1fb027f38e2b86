// SPDX-License-Identifier: Apache-2.0
/** A node's part in what the fleet knows of dying AZs: its evidence, the count of all evidence, and its withdrawal. */
import { planEvidence, type Sighting } from '../core/evidence.ts';
import type { FleetKeys } from '../core/keys.ts';
import { declareByQuorum, type Quorum, withoutWitness, witnessesNeeded } from '../core/quorum.ts';
import {
  declarationSchema,
  decodeValue,
  encodeValue,
  evidenceSchema,
  FLEET_VERSION,
  nodeStatusSchema,
} from '../core/values.ts';
import type { FleetStore, StoredValue } from '../store.ts';

/** Of a change that others make at the same time. */
const TRIES = 8;

export interface WitnessOptions {
  keys: FleetKeys;
  node: string;
  quorum: Quorum;
  now?: () => Date;
}

export class Witness {
  readonly #keys: FleetKeys;
  readonly #node: string;
  readonly #quorum: Quorum;
  readonly #now: () => Date;

  constructor({ keys, node, quorum, now = () => new Date() }: WitnessOptions) {
    this.#keys = keys;
    this.#node = node;
    this.#quorum = quorum;
    this.#now = now;
  }

  /** Brings the store to what this node sees. Rejects with what the store rejects with. */
  async tell(store: FleetStore, lease: string, sighting: Omit<Sighting, 'node'>): Promise<void> {
    const { put, remove, withdraw } = planEvidence({ node: this.#node, ...sighting });
    for (const { az, cause, device } of put) {
      const since = this.#now().toISOString();
      const value = { version: FLEET_VERSION, az, node: this.#node, cause, evidence: `${device}: ${cause}`, since };
      const key = this.#keys.evidence(az, this.#node);
      await store.commit({ puts: [{ key, value: encodeValue(value), lease }] });
      await this.#count(store, az);
    }
    for (const az of remove) await store.commit({ deletes: [{ key: this.#keys.evidence(az, this.#node) }] });
    for (const az of withdraw) await this.#withdraw(store, az);
  }

  /** Only who has just added to the evidence counts: an operator who overrules a quorum is not overruled at once. */
  async #count(store: FleetStore, az: string): Promise<void> {
    const {
      values: [evidence = [], nodes = [], declared = []],
    } = await store.read([
      { prefix: this.#keys.evidence(az, '') },
      { prefix: this.#keys.nodes },
      { key: this.#keys.az(az) },
    ]);
    if (declared.length > 0) return;
    const having = readable(nodes, (value, key) => decodeValue(nodeStatusSchema, key, value)).filter(({ azs }) =>
      azs.some((one) => one.az === az),
    );
    const declaration = declareByQuorum({
      az,
      evidence: readable(evidence, (value, key) => decodeValue(evidenceSchema, key, value)),
      needed: witnessesNeeded(this.#quorum, having.length),
      node: this.#node,
      now: this.#now().toISOString(),
    });
    if (declaration === null) return;
    const key = this.#keys.az(az);
    await store.commit({ conditions: [{ key, modRevision: 0 }], puts: [{ key, value: encodeValue(declaration) }] });
  }

  async #withdraw(store: FleetStore, az: string): Promise<void> {
    const key = this.#keys.az(az);
    for (let tries = 0; tries < TRIES; tries++) {
      const {
        values: [[stored] = []],
      } = await store.read([{ key }]);
      if (stored === undefined) return;
      const declaration = decodeValue(declarationSchema, key, stored.value);
      if (declaration.by !== 'quorum' || !declaration.witnesses.includes(this.#node)) return;
      const rest = withoutWitness(declaration, this.#node);
      const change = rest === null ? { deletes: [{ key }] } : { puts: [{ key, value: encodeValue(rest) }] };
      const done = await store.commit({ conditions: [{ key, modRevision: stored.modRevision }], ...change });
      if (done !== null) return;
    }
  }
}

/** What cannot be read does not count. */
function readable<T>(values: readonly StoredValue[], read: (value: Uint8Array, key: string) => T): T[] {
  return values.flatMap(({ key, value }) => {
    try {
      return [read(value, key)];
    } catch {
      return [];
    }
  });
}
