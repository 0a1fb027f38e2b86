// SPDX-License-Identifier: Apache-2.0
/** deploy/terraform as data. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** Imported by a name that is a value: its types would bring those of browsers into all of the project. */
const hcl2json: string = '@cdktf/hcl2json';
type Parse = (file: string, text: string) => Promise<unknown>;

export const terraformFolder = path.join(import.meta.dirname, '../../deploy/terraform');

/** Labels to bodies; each body is a list, because a block may stand several times. */
export type Labelled = Record<string, Record<string, Record<string, unknown>[]>>;

export interface Terraform {
  resource: Labelled;
  data: Labelled;
  variable: Record<string, Record<string, unknown>[]>;
  output: Record<string, Record<string, unknown>[]>;
  locals: Record<string, unknown>;
}

/** All files together. Throws for one that is no HCL, with its name. */
export async function readTerraform(folder = terraformFolder): Promise<Terraform> {
  const { parse } = (await import(hcl2json)) as { parse: Parse };
  const whole: Terraform = { resource: {}, data: {}, variable: {}, output: {}, locals: {} };
  for (const file of readdirSync(folder)
    .filter((name) => name.endsWith('.tf'))
    .sort()) {
    const parsed = (await parse(file, readFileSync(path.join(folder, file), 'utf8'))) as Partial<Terraform> & {
      locals?: Record<string, unknown>[];
    };
    for (const kind of ['resource', 'data'] as const) {
      for (const [type, named] of Object.entries(parsed[kind] ?? {})) {
        whole[kind][type] = { ...whole[kind][type], ...named };
      }
    }
    Object.assign(whole.variable, parsed.variable);
    Object.assign(whole.output, parsed.output);
    for (const locals of parsed.locals ?? []) Object.assign(whole.locals, locals);
  }
  return whole;
}

export function usedTypes({ resource, data }: Terraform): { resource: string[]; data: string[] } {
  return { resource: Object.keys(resource).sort(), data: Object.keys(data).sort() };
}
