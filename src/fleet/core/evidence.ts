// SPDX-License-Identifier: Apache-2.0
/** What a node has to tell the fleet of the AZs that it sees die, and of those that it sees alive again. Pure. */
import type { ObservedDevice } from './reconcile.ts';
import type { DeclarationValue, EvidenceValue } from './values.ts';

/** By hand or by the fleet is nothing that a node saw. */
const notSeen: ReadonlySet<string | null> = new Set(['manual', 'fleet', null]);

export interface EvidencePlan {
  /** With what it was found by. */
  put: { az: string; cause: string; device: string }[];
  remove: string[];
  /** Quorums that this node belonged to and does not any more. */
  withdraw: string[];
}

export interface Sighting {
  node: string;
  observed: readonly ObservedDevice[];
  /** Evidence of this node that is in the store. */
  told: readonly EvidenceValue[];
  declarations: ReadonlyMap<string, DeclarationValue>;
}

export function planEvidence({ node, observed, told, declarations }: Sighting): EvidencePlan {
  const dead = new Map<string, { cause: string; device: string }>();
  const alive = new Set<string>();
  for (const device of observed) {
    for (const { name, state, cause } of device.azs) {
      if (state === 'up') alive.add(name);
      else if (!notSeen.has(cause)) dead.set(name, { cause: cause!, device: device.name });
    }
  }
  const known = new Set(told.map(({ az }) => az));
  const isOver = (az: string): boolean => alive.has(az) && !dead.has(az);
  return {
    put: [...dead].filter(([az]) => !known.has(az)).map(([az, seen]) => ({ az, ...seen })),
    remove: [...known].filter((az) => !dead.has(az)),
    withdraw: [...declarations.values()]
      .filter(({ by, az, witnesses }) => by === 'quorum' && witnesses.includes(node) && isOver(az))
      .map(({ az }) => az),
  };
}
