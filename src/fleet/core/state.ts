// SPDX-License-Identifier: Apache-2.0
/** What the store says, as nodes read it: what cannot be read is a problem, and what was known before stays. Pure. */
import type { FleetKeys } from './keys.ts';
import {
  type CandidateValue,
  candidateSchema,
  contentError,
  type DeclarationValue,
  declarationSchema,
  decodeValue,
  type EvidenceValue,
  evidenceSchema,
  type FleetProblem,
  problemOf,
  type SpecValue,
  specSchema,
} from './values.ts';

export interface FleetState {
  /** Null: there is none, or it cannot be read. */
  spec: SpecValue | null;
  candidate: CandidateValue | null;
  declarations: ReadonlyMap<string, DeclarationValue>;
  evidence: readonly EvidenceValue[];
  problems: readonly FleetProblem[];
}

export const emptyState: FleetState = {
  spec: null,
  candidate: null,
  declarations: new Map(),
  evidence: [],
  problems: [],
};

/**
 * @param values what is below `keys.state`
 * @param before what was known: kept where a value cannot be read now
 */
export function readState(keys: FleetKeys, values: ReadonlyMap<string, Uint8Array>, before: FleetState): FleetState {
  if (before.spec !== null && !values.has(keys.spec)) {
    // A store that lost its contents must not lift what was declared.
    const error = contentError(keys.spec, 'is missing, and was there; everything stays as it is until it is back');
    return { ...before, problems: [problemOf(error)] };
  }
  const declarations = new Map<string, DeclarationValue>();
  const evidence: EvidenceValue[] = [];
  const problems: FleetProblem[] = [];
  let spec: SpecValue | null = before.spec;
  let candidate: CandidateValue | null = null;
  /** Gives what is kept instead where the value cannot be read. */
  const attempt = <T>(key: string, read: () => T, otherwise: T): T => {
    try {
      return read();
    } catch (error) {
      problems.push(problemOf(error, key));
      return otherwise;
    }
  };
  for (const [key, bytes] of values) {
    const parsed = keys.parseState(key);
    switch (parsed?.kind) {
      case 'spec':
        spec = attempt(key, () => decodeValue(specSchema, key, bytes), before.spec);
        break;
      case 'candidate':
        candidate = attempt(key, () => decodeValue(candidateSchema, key, bytes), before.candidate);
        break;
      case 'az': {
        const { az } = parsed;
        const known = before.declarations.get(az) ?? null;
        const read = attempt(key, () => named(decodeValue(declarationSchema, key, bytes), az, key), known);
        if (read !== null) declarations.set(az, read);
        break;
      }
      case 'evidence': {
        const { az } = parsed;
        const read = attempt(key, () => named(decodeValue(evidenceSchema, key, bytes), az, key), null);
        if (read !== null && read.node === parsed.node) evidence.push(read);
        break;
      }
      default:
        problems.push(problemOf(contentError(key, 'is no key of a fleet'), key));
    }
  }
  return { spec, candidate, declarations, evidence, problems };
}

function named<T extends { az: string }>(value: T, az: string, key: string): T {
  if (value.az !== az) throw contentError(key, `speaks of AZ ${value.az}`);
  return value;
}
