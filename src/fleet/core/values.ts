// SPDX-License-Identifier: Apache-2.0
/** The values in the store: their schemas, and reading and writing them. What cannot be read is refused as a whole. Pure. */
import { z } from 'zod';
import { type ErrorCode, VnicError } from '../../errors.ts';
import { NAME } from './keys.ts';

/** Of every value. A later version is refused, not guessed at. */
export const FLEET_VERSION = 1;

const name = z.string().regex(NAME);
const time = z.string().max(40);
const text = z.string().max(2000);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

export const specSchema = z.object({
  version: z.literal(FLEET_VERSION),
  /** Counts the policies of this fleet from 1. */
  revision: z.int().min(1),
  /** Of the policy's canonical JSON text. */
  sha256,
  /** Number of its chunks, gzip over all of them. */
  chunks: z.int().min(1).max(1000),
  since: time,
  by: text,
  /** The revision whose policy this is again. */
  rollbackOf: z.int().nullable(),
});

export const candidateSchema = specSchema.extend({ nodes: z.array(name).min(1) });

export const declarationSchema = z.object({
  version: z.literal(FLEET_VERSION),
  az: name,
  by: z.enum(['operator', 'quorum']),
  /** Who declared it: an operator, or the node that counted. */
  who: text,
  reason: text,
  since: time,
  /** Also where few queues would be left. */
  force: z.boolean(),
  /** Of a quorum: nodes that saw the AZ die and have not seen it alive since. */
  witnesses: z.array(name),
  /** Of a quorum: fewer witnesses than this are none. */
  needed: z.int().min(0),
});

export const evidenceSchema = z.object({
  version: z.literal(FLEET_VERSION),
  az: name,
  node: name,
  cause: text,
  evidence: text,
  since: time,
});

export const problemSchema = z.object({
  code: z.string() as z.ZodType<ErrorCode>,
  message: z.string(),
  remedy: z.string().nullable(),
  /** The key in the store that it is about. */
  key: z.string().nullable(),
});

const traffic = z.object({ seconds: z.number(), packets: z.number(), dropped: z.number() });

export const nodeStatusSchema = z.object({
  version: z.literal(FLEET_VERSION),
  node: name,
  /** Tells this node from another that has its name. */
  instance: z.string(),
  vnicctl: z.string(),
  labels: z.record(z.string(), z.string()),
  /** The newest policy that is meant for the node; null: none was seen. */
  specRevision: z.int().nullable(),
  /** The policy that is in effect on it. */
  appliedRevision: z.int().nullable(),
  /** Whether what is in effect is on trial. */
  canary: z.boolean(),
  /** Where devices differ from the policy in effect. */
  drift: z.array(z.string()),
  /** What keeps the node from what is asked for. */
  problems: z.array(problemSchema),
  azs: z.array(
    z.object({ device: z.string(), az: z.string(), state: z.enum(['up', 'failed']), cause: z.string().nullable() }),
  ),
  /** Around the change to the policy in effect; null: not known. */
  traffic: z.object({ before: traffic, since: traffic }).nullable(),
});

export type SpecValue = z.output<typeof specSchema>;
export type CandidateValue = z.output<typeof candidateSchema>;
export type DeclarationValue = z.output<typeof declarationSchema>;
export type EvidenceValue = z.output<typeof evidenceSchema>;
export type FleetProblem = z.output<typeof problemSchema>;
export type NodeStatus = z.output<typeof nodeStatusSchema>;
export type Traffic = z.output<typeof traffic>;

export function encodeValue(value: { version: number }): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** Throws `fleet_content`. */
export function decodeValue<Schema extends z.ZodType>(
  schema: Schema,
  key: string,
  bytes: Uint8Array,
): z.output<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw contentError(key, 'is not JSON', cause);
  }
  const { version } = (value ?? {}) as { version?: unknown };
  if (version !== FLEET_VERSION) {
    throw contentError(key, `has version ${JSON.stringify(version)}, and this vnicctl reads version ${FLEET_VERSION}`);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw contentError(key, `is not valid at ${issue?.path.join('.') || 'its top'}: ${issue?.message}`, result.error);
}

export function contentError(key: string, what: string, cause?: unknown): VnicError {
  return new VnicError('fleet_content', `${key} ${what}.`, {
    remedy: 'It was not written by this version of vnicctl fleet; put it right or delete it.',
    details: { key },
    cause,
  });
}

export function problemOf(error: unknown, key: string | null = null): FleetProblem {
  if (!(error instanceof VnicError)) {
    return { code: 'failed', message: `Unexpected: ${String(error)}`, remedy: null, key };
  }
  const { code, message, remedy = null, details } = error;
  return { code, message, remedy, key: key ?? (typeof details['key'] === 'string' ? details['key'] : null) };
}
