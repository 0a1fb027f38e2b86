// SPDX-License-Identifier: Apache-2.0
/**
 * What a node knew of its fleet, on disk: with it a daemon that starts while etcd is away goes on as it was. The policy's
 * text, which may be large, has a file of its own, named by its hash and written once.
 */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { StateFiles } from '../../app/records/files.ts';
import { hashOf } from '../core/content.ts';
import { candidateSchema, declarationSchema, specSchema } from '../core/values.ts';

const NAME = 'fleet.json';
const POLICY = /^fleet-policy-([0-9a-f]{64})\.json$/;

const schema = z.object({
  version: z.literal(1),
  /** A node that was given to another fleet knows nothing of it. */
  prefix: z.string(),
  instance: z.string(),
  spec: specSchema.nullable(),
  candidate: candidateSchema.nullable(),
  declarations: z.array(declarationSchema),
  seenAlive: z.array(z.string()),
  applied: z
    .object({
      revision: z.int(),
      canary: z.boolean(),
      sha256: z.string(),
      devices: z.record(z.string(), z.object({ hash: z.string(), tag: z.string() })),
    })
    .nullable(),
});

export type LastKnown = z.output<typeof schema>;

export class LastKnownFile {
  readonly #files: StateFiles;
  readonly #prefix: string;
  #written = '';

  constructor(files: StateFiles, prefix: string) {
    this.#files = files;
    this.#prefix = prefix;
  }

  /** What cannot be read is set aside, and reported. */
  read(onDamage: (file: string, reason: string) => void): LastKnown {
    const nothing: LastKnown = {
      version: 1,
      prefix: this.#prefix,
      instance: randomUUID(),
      spec: null,
      candidate: null,
      declarations: [],
      seenAlive: [],
      applied: null,
    };
    this.#files.removeAbandoned();
    const bytes = this.#files.read(NAME);
    if (bytes === null) return nothing;
    try {
      const known = schema.parse(JSON.parse(bytes.toString()));
      return known.prefix === this.#prefix ? known : nothing;
    } catch (error) {
      this.#files.rename(NAME, `${NAME}.damaged`);
      onDamage(this.#files.pathOf(`${NAME}.damaged`), error instanceof Error ? error.message : String(error));
      return nothing;
    }
  }

  /** On disk when it returns. Throws the system's errors. */
  write(known: LastKnown): void {
    const text = JSON.stringify(known);
    if (text === this.#written) return;
    this.#files.rename(this.#files.writeTemporary(NAME, Buffer.from(text)), NAME);
    this.#files.sync();
    this.#written = text;
  }

  /** Null: there is none, or it is damaged. */
  readPolicy(sha256: string): string | null {
    const text = this.#files.read(policyName(sha256))?.toString() ?? null;
    return text !== null && hashOf(text) === sha256 ? text : null;
  }

  writePolicy(sha256: string, text: string): void {
    this.#files.rename(this.#files.writeTemporary(policyName(sha256), Buffer.from(text)), policyName(sha256));
  }

  /** Removes the policies that are not among these. */
  keepPolicies(hashes: readonly string[]): void {
    for (const name of this.#files.names()) {
      const [, sha256] = POLICY.exec(name) ?? [];
      if (sha256 !== undefined && !hashes.includes(sha256)) this.#files.remove(name);
    }
  }
}

function policyName(sha256: string): string {
  return `fleet-policy-${sha256}.json`;
}
