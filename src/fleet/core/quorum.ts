// SPDX-License-Identifier: Apache-2.0
/** When nodes that saw an AZ die are enough to declare it down for all, and when they are not any more. Pure. */
import { type DeclarationValue, type EvidenceValue, FLEET_VERSION } from './values.ts';

/** `majority`: more than half of the nodes that have the AZ, and at least two. `off`: evidence is only shown. */
export type Quorum = number | 'majority' | 'off';

/** One node alone is not a quorum, whatever it saw. */
const LEAST = 2;

/** @param nodes that report and have the AZ */
export function witnessesNeeded(quorum: Quorum, nodes: number): number | null {
  if (quorum === 'off') return null;
  return Math.max(LEAST, quorum === 'majority' ? Math.floor(nodes / 2) + 1 : quorum);
}

export interface Count {
  az: string;
  evidence: readonly EvidenceValue[];
  needed: number | null;
  /** Who counts, and when. */
  node: string;
  now: string;
}

/** The declaration that the evidence asks for, or null. */
export function declareByQuorum({ az, evidence, needed, node, now }: Count): DeclarationValue | null {
  const witnesses = [...new Set(evidence.map((one) => one.node))].sort();
  if (needed === null || witnesses.length < needed) return null;
  return {
    version: FLEET_VERSION,
    az,
    by: 'quorum',
    who: node,
    reason: `${witnesses.length} nodes saw it die: ${witnesses.join(', ')}`,
    since: now,
    force: false,
    witnesses,
    needed,
  };
}

/** What is left of a declaration when a witness has seen the AZ alive; null: it is withdrawn. */
export function withoutWitness(declaration: DeclarationValue, node: string): DeclarationValue | null {
  const witnesses = declaration.witnesses.filter((name) => name !== node);
  return witnesses.length < declaration.needed ? null : { ...declaration, witnesses };
}
