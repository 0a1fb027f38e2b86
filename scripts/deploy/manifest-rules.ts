// SPDX-License-Identifier: Apache-2.0
/** Kubernetes manifests against the API's own schemas, and each other. */
import { parseAllDocuments } from 'yaml';
import { loadConfig } from '../../src/config/config.ts';

interface Manifest {
  apiVersion: string;
  kind: string;
  metadata?: { name?: string; namespace?: string };
  data?: Record<string, string>;
}

type ModelClass = new (data: unknown) => { validate(): void };

export async function manifestProblems(text: string): Promise<string[]> {
  const problems: string[] = [];
  for (const document of parseAllDocuments(text)) {
    if (document.errors.length > 0) return document.errors.map(({ message }) => message);
    const manifest = document.toJS() as Manifest;
    const { apiVersion, kind } = manifest;
    const name = `${kind} ${manifest.metadata?.name}`;
    try {
      const models = (await import(`kubernetes-models/${apiVersion}`)) as Record<string, ModelClass>;
      const Model = models[kind];
      if (Model === undefined) throw new Error(`there is no ${kind} in ${apiVersion}`);
      new Model(manifest).validate();
      const config = manifest.data?.['vnic.yaml'];
      if (config !== undefined) loadConfig(config, 'vnic.yaml');
    } catch (error) {
      problems.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return problems;
}
