// SPDX-License-Identifier: Apache-2.0
/**
 * Where things are in the store. Everything of a fleet is below one prefix:
 *
 *     <prefix>/state/spec                    the policy in force (SpecValue)
 *     <prefix>/state/candidate               a policy on trial, under the lease of who tries it (CandidateValue)
 *     <prefix>/state/azs/<az>                an AZ that is declared down (DeclarationValue)
 *     <prefix>/state/evidence/<az>/<node>    a node saw the AZ die; under the node's lease (EvidenceValue)
 *     <prefix>/content/<sha256>/<number>     policies themselves, in chunks, never changed
 *     <prefix>/history/<revision>            specs that were in force
 *     <prefix>/nodes/<node>                  what a node reports, under its lease (NodeStatus)
 *
 * Nodes watch <prefix>/state/ only: what nodes report does not wake other nodes.
 */

export const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

export type StateKey =
  | { kind: 'spec' }
  | { kind: 'candidate' }
  | { kind: 'az'; az: string }
  | { kind: 'evidence'; az: string; node: string };

export class FleetKeys {
  readonly prefix: string;

  /** @param prefix such as /vnic, with or without a slash at its end */
  constructor(prefix: string) {
    this.prefix = prefix.replace(/\/+$/, '');
  }

  get state(): string {
    return `${this.prefix}/state/`;
  }

  get spec(): string {
    return `${this.state}spec`;
  }

  get candidate(): string {
    return `${this.state}candidate`;
  }

  get azs(): string {
    return `${this.state}azs/`;
  }

  get nodes(): string {
    return `${this.prefix}/nodes/`;
  }

  get histories(): string {
    return `${this.prefix}/history/`;
  }

  get contents(): string {
    return `${this.prefix}/content/`;
  }

  az(az: string): string {
    return `${this.azs}${az}`;
  }

  evidence(az: string, node: string): string {
    return `${this.state}evidence/${az}/${node}`;
  }

  node(node: string): string {
    return `${this.nodes}${node}`;
  }

  /** Digits in front, so that keys are in the order of their numbers. */
  history(revision: number): string {
    return this.histories + String(revision).padStart(10, '0');
  }

  content(sha256: string): string {
    return `${this.contents}${sha256}/`;
  }

  chunk(sha256: string, number: number): string {
    return this.content(sha256) + String(number).padStart(4, '0');
  }

  /** Null: not a key that a fleet has. */
  parseState(key: string): StateKey | null {
    if (!key.startsWith(this.state)) return null;
    const [kind, ...names] = key.slice(this.state.length).split('/');
    if (names.some((name) => !NAME.test(name))) return null;
    const [az, node] = names;
    if (kind === 'spec' && names.length === 0) return { kind };
    if (kind === 'candidate' && names.length === 0) return { kind };
    if (kind === 'azs' && names.length === 1) return { kind: 'az', az: az! };
    if (kind === 'evidence' && names.length === 2) return { kind, az: az!, node: node! };
    return null;
  }
}
