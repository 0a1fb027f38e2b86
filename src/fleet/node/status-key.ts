// SPDX-License-Identifier: Apache-2.0
/** What a node reports, in its own key, under its lease. Another node of the same name is noticed, and left alone. */
import { VnicError } from '../../errors.ts';
import type { FleetKeys } from '../core/keys.ts';
import { decodeValue, encodeValue, type NodeStatus, nodeStatusSchema } from '../core/values.ts';
import type { FleetStore } from '../store.ts';

export class StatusKey {
  readonly #key: string;
  #written = '';
  #isOurs = false;

  constructor(keys: FleetKeys, node: string) {
    this.#key = keys.node(node);
  }

  /** The key may be gone, or somebody else's. */
  doubt(): void {
    this.#isOurs = false;
    this.#written = '';
  }

  /** Throws `conflict` where another node that lives has the name, and what the store throws. */
  async write(store: FleetStore, lease: string, status: NodeStatus): Promise<void> {
    const text = JSON.stringify(status);
    if (text === this.#written) return;
    if (!this.#isOurs) await this.#requireOurs(store, status);
    await store.commit({ puts: [{ key: this.#key, value: encodeValue(status), lease }] });
    this.#isOurs = true;
    this.#written = text;
  }

  async #requireOurs(store: FleetStore, { node, instance }: NodeStatus): Promise<void> {
    const {
      values: [[stored] = []],
    } = await store.read([{ key: this.#key }]);
    if (stored === undefined) return;
    let other: NodeStatus;
    try {
      other = decodeValue(nodeStatusSchema, this.#key, stored.value);
    } catch {
      // Of another version, or damaged: nobody's.
      return;
    }
    if (other.instance === instance) return;
    throw new VnicError('conflict', `Another node reports as ${node} at ${store.name}.`, {
      remedy: 'Give each node a name of its own: fleet.node. One that has ended is forgotten within half a minute.',
    });
  }
}
