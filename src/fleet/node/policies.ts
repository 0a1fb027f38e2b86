// SPDX-License-Identifier: Apache-2.0
/** The policies that a node has to do with, read, checked and kept on disk. */
import { hashOf, unpackContent } from '../core/content.ts';
import type { FleetKeys } from '../core/keys.ts';
import { formatPolicy, parsePolicy, policyFor } from '../core/policy.ts';
import type { DesiredDevice } from '../core/reconcile.ts';
import type { Labels } from '../core/selector.ts';
import { contentError, type SpecValue } from '../core/values.ts';
import type { FleetStore } from '../store.ts';
import type { LastKnownFile } from './last-known.ts';

export type Desired = ReadonlyMap<string, DesiredDevice>;

export class NodePolicies {
  readonly #keys: FleetKeys;
  readonly #file: LastKnownFile;
  readonly #labels: Labels;
  readonly #loaded = new Map<string, Desired>();

  constructor(keys: FleetKeys, file: LastKnownFile, labels: Labels) {
    this.#keys = keys;
    this.#file = file;
    this.#labels = labels;
  }

  /** What a policy that is on disk asks of this node; null: it is not there. */
  known(sha256: string): Desired | null {
    const loaded = this.#loaded.get(sha256);
    if (loaded !== undefined) return loaded;
    const text = this.#file.readPolicy(sha256);
    return text === null ? null : this.#read(sha256, text);
  }

  /** From the store where it is not on disk. Throws `fleet_content`, `invalid_config`, and what the store throws. */
  async get(spec: SpecValue, store: FleetStore | null): Promise<Desired | null> {
    const known = this.known(spec.sha256);
    if (known !== null || store === null) return known;
    const key = this.#keys.content(spec.sha256);
    const {
      values: [chunks = []],
    } = await store.read([{ prefix: key }]);
    const text = unpackContent(
      spec,
      chunks.map(({ value }) => value),
      key,
    );
    const desired = this.#read(spec.sha256, text);
    this.#file.writePolicy(spec.sha256, text);
    return desired;
  }

  #read(sha256: string, text: string): Desired {
    const key = this.#keys.content(sha256);
    let input: unknown;
    try {
      input = JSON.parse(text);
    } catch (cause) {
      throw contentError(key, 'is not JSON', cause);
    }
    const devices = policyFor(parsePolicy(input, `the policy at ${key}`), this.#labels);
    const desired = new Map(
      [...devices].map(([name, policy]) => {
        const hash = hashOf(formatPolicy({ parts: [{ selector: {}, devices: { [name]: policy } }] }));
        return [name, { policy, hash }] as const;
      }),
    );
    this.#loaded.set(sha256, desired);
    return desired;
  }

  /** Forgets all others. */
  keep(hashes: readonly string[]): void {
    for (const sha256 of this.#loaded.keys()) if (!hashes.includes(sha256)) this.#loaded.delete(sha256);
    this.#file.keepPolicies(hashes);
  }
}
