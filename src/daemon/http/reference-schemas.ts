// SPDX-License-Identifier: Apache-2.0
/** Schemas in words: one line for a type, a table for an object. Pure. */
import type { Schema } from './openapi-shape.ts';

/** Limits of a double's whole numbers: what a schema says when it says nothing. */
const isBound = (value: number | undefined): value is number =>
  value !== undefined && Math.abs(value) < Number.MAX_SAFE_INTEGER;

/** The anchor of a heading, as GitHub makes it. */
export function slug(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(/\s/g, '-');
}

/** Text that stands in a table or a paragraph. */
export function escapeText(text: string): string {
  const parts = text.replaceAll('|', '\\|').split(/(`[^`]*`)/);
  return parts.map((part) => (part.startsWith('`') ? part : part.replaceAll('<', '&lt;'))).join('');
}

const refName = (ref: string): string => ref.split('/').at(-1)!;

function range({ minimum, maximum, exclusiveMinimum }: Schema): string {
  if (isBound(minimum) && isBound(maximum)) return ` ${minimum} to ${maximum}`;
  const over = isBound(exclusiveMinimum) ? ` above ${exclusiveMinimum}` : isBound(minimum) ? ` from ${minimum}` : '';
  return `${over}${isBound(maximum) ? `${over === '' ? '' : ','} at most ${maximum}` : ''}`;
}

function typeName(schema: Schema, type: string): string {
  switch (type) {
    case 'null':
      return 'null';
    case 'array':
      return `list of ${schema.items === undefined ? 'anything' : typeText(schema.items)}`;
    case 'object': {
      const { additionalProperties: values, properties } = schema;
      return properties === undefined && typeof values === 'object' ? `${typeText(values)} by name` : 'object';
    }
    case 'integer':
    case 'number':
      return `${type}${range(schema)}`;
    case 'string':
      if (schema.format !== undefined) return schema.format;
      return schema.maxLength === undefined ? 'string' : `string of at most ${schema.maxLength}`;
    default:
      return type;
  }
}

/** Of several types an object tells which one it is by its fields. */
function alternativeText(schema: Schema): string {
  const names = Object.keys(schema.properties ?? {}).map((name) => `\`${name}\``);
  return names.length === 0 ? typeText(schema) : `object with ${names.join(', ')}`;
}

/** In a few words; named schemas are links. */
export function typeText(schema: Schema): string {
  const { $ref: ref, type, anyOf, oneOf } = schema;
  if (ref !== undefined) return `[${refName(ref)}](#${slug(refName(ref))})`;
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${JSON.stringify(value)}\``).join(' or ');
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``;
  const alternatives = anyOf ?? oneOf;
  if (alternatives !== undefined) return alternatives.map(alternativeText).join(' or ');
  if (type === undefined) return 'anything';
  const types = typeof type === 'string' ? [type] : type;
  return types.map((name) => typeName(schema, name)).join(' or ');
}

interface Field {
  name: string;
  schema: Schema;
}

/** Fields of an object and of the unnamed objects in it: `match.src?`, `queues[].queue`. */
function fieldsOf({ properties = {}, required = [] }: Schema, prefix: string): Field[] {
  return Object.entries(properties).flatMap(([key, schema]) => {
    const name = `${prefix}${key}${required.includes(key) ? '' : '?'}`;
    const inner = schema.items ?? schema;
    const innerFields = fieldsOf(inner, `${prefix}${key}${schema.items === undefined ? '' : '[]'}.`);
    return [{ name, schema }, ...innerFields];
  });
}

/** A table of what is there; columns in which nothing stands are left out. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const used = head.map((_, column) => rows.some((row) => row[column] !== ''));
  const line = (cells: readonly string[]): string => `| ${cells.filter((_, column) => used[column]).join(' | ')} |`;
  const rule = `|${'---|'.repeat(used.filter(Boolean).length)}`;
  return [line(head), rule, ...rows.map((row) => line(row.map((cell) => cell.replaceAll('\n', ' '))))].join('\n');
}

/** The fields of an object as a table; of anything else its type. */
export function schemaText(schema: Schema): string {
  const fields = fieldsOf(schema, '');
  if (fields.length === 0) return `${capital(typeText(schema))}.`;
  const rows = fields.map(({ name, schema: field }) => [
    `\`${name}\``,
    escapeText(typeText(field)),
    escapeText(field.description ?? field.items?.description ?? ''),
  ]);
  return table(['field', 'type', 'meaning'], rows);
}

export function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
