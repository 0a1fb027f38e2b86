// SPDX-License-Identifier: Apache-2.0
/** What `terraform validate` would say of arguments, blocks and references, without provider and network. Pure. */
import type { Terraform } from './terraform.ts';

export interface BlockSchema {
  required: string[];
  optional: string[];
  blocks: Record<string, BlockSchema>;
}

export interface AwsSchema {
  source: string;
  resource: Record<string, BlockSchema & { attributes: string[] }>;
  data: Record<string, BlockSchema & { attributes: string[] }>;
}

/** Of Terraform itself, in every resource. */
const META = new Set(['count', 'for_each', 'depends_on', 'provider', 'lifecycle', 'connection', 'provisioner']);

export function terraformProblems(terraform: Terraform, schema: AwsSchema): string[] {
  const problems: string[] = [];
  for (const kind of ['resource', 'data'] as const) {
    for (const [type, named] of Object.entries(terraform[kind])) {
      const known = schema[kind][type];
      if (known === undefined) {
        problems.push(`${type}: not in aws-schema.json; run scripts/deploy/extract-aws-schema.ts`);
        continue;
      }
      for (const [name, bodies] of Object.entries(named)) {
        for (const body of bodies) problems.push(...blockProblems(body, known, `${type}.${name}`, META));
      }
    }
  }
  for (const kind of ['variable', 'output'] as const) {
    for (const [name, [body]] of Object.entries(terraform[kind])) {
      if (typeof body?.['description'] !== 'string') problems.push(`${kind} ${name} has no description`);
    }
  }
  return [...problems, ...referenceProblems(terraform, schema)];
}

function blockProblems(
  body: Record<string, unknown>,
  { required, optional, blocks }: BlockSchema,
  at: string,
  besides: ReadonlySet<string>,
): string[] {
  const problems: string[] = [];
  for (const [key, value] of Object.entries(body)) {
    const block = blocks[key];
    if (block !== undefined && Array.isArray(value)) {
      for (const inner of value as Record<string, unknown>[]) {
        problems.push(...blockProblems(inner, block, `${at}.${key}`, new Set()));
      }
    } else if (block === undefined && !required.includes(key) && !optional.includes(key) && !besides.has(key)) {
      problems.push(`${at} has no argument ${key}`);
    }
  }
  for (const key of required) if (!(key in body)) problems.push(`${at} lacks its argument ${key}`);
  return problems;
}

function referenceProblems(terraform: Terraform, schema: AwsSchema): string[] {
  const problems: string[] = [];
  const expressions = JSON.stringify(terraform);
  for (const [, name] of expressions.matchAll(/\bvar\.(\w+)/g)) {
    if (terraform.variable[name!] === undefined) problems.push(`var.${name} is not declared`);
  }
  for (const name of Object.keys(terraform.variable)) {
    if (!new RegExp(`\\bvar\\.${name}\\b`).test(JSON.stringify({ ...terraform, variable: {} })) && name !== 'region') {
      problems.push(`variable ${name} is not used`);
    }
  }
  for (const [, name] of expressions.matchAll(/\blocal\.(\w+)/g)) {
    if (!(name! in terraform.locals)) problems.push(`local.${name} is not declared`);
  }
  for (const [, data, type, name, attribute] of expressions.matchAll(
    /(?<![\w.])(data\.)?(aws_\w+)\.(\w+)(?:\[[^\]]*\])?(?:\.(\w+))?/g,
  )) {
    const kind = data === undefined ? 'resource' : 'data';
    if (terraform[kind][type!]?.[name!] === undefined) problems.push(`${type}.${name} is not declared`);
    else if (attribute !== undefined && !hasAttribute(schema[kind][type!], attribute)) {
      problems.push(`${type}.${name} has no attribute ${attribute}`);
    }
  }
  return [...new Set(problems)];
}

function hasAttribute(known: AwsSchema['resource'][string] | undefined, name: string): boolean {
  if (known === undefined) return true;
  return [...known.attributes, ...known.required, ...known.optional, ...Object.keys(known.blocks)].includes(name);
}
