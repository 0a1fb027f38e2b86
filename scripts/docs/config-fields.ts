// SPDX-License-Identifier: Apache-2.0
/** The fields of the configuration file, from its schema, with what they mean. Pure. */
import { z } from 'zod';
import { configSchema } from '../../src/config/schema.ts';

export interface ConfigField {
  /** `devices.*.azs[].name`. */
  path: string;
  type: string;
  required: boolean;
  meaning: string;
}

interface JsonSchema {
  type?: string | string[];
  enum?: unknown[];
  anyOf?: JsonSchema[];
  properties?: Record<string, JsonSchema>;
  required?: string[];
  additionalProperties?: JsonSchema | boolean;
  items?: JsonSchema;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
}

/** Throws for a field without a meaning, and for a meaning without a field. */
export function configFields(meanings: Readonly<Record<string, string>>): ConfigField[] {
  const fields: ConfigField[] = [];
  walk(z.toJSONSchema(configSchema, { io: 'input' }) as JsonSchema, '', (path, schema, required) => {
    const meaning = meanings[path];
    if (meaning === undefined) throw new Error(`scripts/docs/config-meanings.ts does not say what ${path} means`);
    fields.push({ path, type: typeOf(schema), required, meaning });
  });
  const known = new Set(fields.map(({ path }) => path));
  const stale = Object.keys(meanings).find((path) => !known.has(path));
  if (stale !== undefined) throw new Error(`scripts/docs/config-meanings.ts explains ${stale}, which is no field`);
  return fields;
}

type Visit = (path: string, schema: JsonSchema, required: boolean) => void;

function walk(schema: JsonSchema, path: string, visit: Visit): void {
  for (const [name, field] of Object.entries(schema.properties ?? {})) {
    const at = path === '' ? name : `${path}.${name}`;
    visit(at, field, schema.required?.includes(name) ?? false);
    walk(field, at, visit);
  }
  if (typeof schema.additionalProperties === 'object') walk(schema.additionalProperties, `${path}.*`, visit);
  if (schema.items !== undefined) walk(schema.items, `${path}[]`, visit);
}

function typeOf(schema: JsonSchema): string {
  if (schema.enum !== undefined) return schema.enum.join(', ');
  if (schema.anyOf !== undefined) return [...new Set(schema.anyOf.map(typeOf))].join(' or ');
  if (Array.isArray(schema.type)) return schema.type.join(' or ');
  if (schema.type === 'array') return `list of ${plural(schema.items ?? {})}`;
  if (schema.type !== 'integer' && schema.type !== 'number') return schema.type ?? 'any value';
  const { minimum, exclusiveMinimum, maximum } = schema;
  const least = minimum ?? (exclusiveMinimum === undefined ? undefined : `above ${exclusiveMinimum}`);
  if (least === undefined || maximum === undefined || Math.abs(maximum) >= Number.MAX_SAFE_INTEGER) return schema.type;
  return `${schema.type}, ${least} to ${maximum}`;
}

function plural({ type }: JsonSchema): string {
  return { object: 'objects', string: 'strings', integer: 'numbers', number: 'numbers' }[String(type)] ?? 'values';
}
