// SPDX-License-Identifier: Apache-2.0
/** From the bytes of a request to checked data, and from data to the bytes of a response. Pure. */
import { z } from 'zod';
import { VnicError } from '../errors.ts';
import { type Path, ProblemList } from '../steering/rules/problems.ts';
import type { BodySpec } from './operation.ts';

const JSON_TYPE = 'application/json';

const decoder = new TextDecoder('utf-8', { fatal: true });

/** Throws `usage` for bytes that are not UTF-8. */
export function decodeText(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new VnicError('usage', 'The body is not valid UTF-8.', { remedy: 'Send text as UTF-8.', cause });
  }
}

/** Throws `usage`. */
export function parseJson(bytes: Uint8Array): unknown {
  const text = decodeText(bytes);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new VnicError('usage', `The body is not valid JSON: ${(cause as Error).message}`, {
      remedy: 'Send one JSON value.',
      cause,
    });
  }
}

/** The body with a field that the path names already, unless it has one. What is no object is left for its reader. */
export function withField(body: unknown, field: string, value: unknown): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return body;
  return { ...body, [field]: (body as Record<string, unknown>)[field] ?? value };
}

/** Checks against a schema. Throws `usage` with every problem. */
export function checkInput<Schema extends z.ZodType>(
  schema: Schema,
  input: unknown,
  subject: string,
  path: Path = [],
): z.output<Schema> {
  const problems = new ProblemList();
  const output = problems.check(schema, input, path);
  problems.throwIfAny('usage', subject);
  return output as z.output<Schema>;
}

/** The media type of a Content-Type header, in lower case, without its parameters. */
export function mediaTypeOf(header: string | undefined): string {
  return (header ?? JSON_TYPE).split(';')[0]!.trim().toLowerCase();
}

/** Throws `unsupported_media_type`, `usage`, and what the operation's own reader throws. */
export function readBody<Schema extends z.ZodType>(
  spec: BodySpec<Schema>,
  bytes: Uint8Array | null,
  contentType: string | undefined,
): z.output<Schema> {
  if (bytes === null || bytes.length === 0) {
    if (spec.optional === true) return checkInput(spec.schema, {}, 'The body is not valid');
    throw new VnicError('usage', 'The request has no body.', { remedy: 'Send a JSON body with Content-Length.' });
  }
  const mediaType = mediaTypeOf(contentType);
  const types = [JSON_TYPE, ...(spec.otherTypes ?? [])];
  if (!types.includes(mediaType)) {
    throw new VnicError('unsupported_media_type', `The body is ${mediaType}, which is not read here.`, {
      remedy: `Send it as ${types.join(', ')}.`,
    });
  }
  if (spec.read !== undefined) return spec.read(bytes, mediaType);
  return checkInput(spec.schema, parseJson(bytes), 'The body is not valid');
}

/** From ES2025; the library types of TypeScript do not have it yet. */
const { rawJSON } = JSON as unknown as { rawJSON: (text: string) => unknown };

/** u64 values with all their digits, as numbers. */
function exactNumber(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? rawJSON(String(value)) : value;
}

const encoder = new TextEncoder();

export function encodeText(text: string): Uint8Array {
  return encoder.encode(text);
}

/** JSON as bytes. A replacer is called for each value, so it is only used for data that has u64 values. */
export function encodeJson(data: unknown): Uint8Array {
  try {
    return encodeText(JSON.stringify(data));
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return encodeText(JSON.stringify(data, exactNumber));
  }
}

/** `true` or `false` in a query. */
export const queryFlag = z
  .enum(['true', 'false'], 'true or false')
  .transform((value) => value === 'true')
  .optional();

export const dryRunQuery = z.strictObject({ dryRun: queryFlag });

/** Publishes a number that is read from text as the number it stands for. */
export function integerInText(minimum: number, maximum: number) {
  return ({ jsonSchema }: { jsonSchema: Record<string, unknown> }): void => {
    for (const key of Object.keys(jsonSchema)) delete jsonSchema[key];
    Object.assign(jsonSchema, { type: 'integer', minimum, maximum });
  };
}

/** A whole number in a query. */
export function queryNumber(min: number, max: number) {
  const expected = `a whole number from ${min} to ${max}`;
  return z
    .string(expected)
    .regex(/^\d{1,10}$/, expected)
    .transform(Number)
    .pipe(z.int(expected).min(min, expected).max(max, expected))
    .meta({ override: integerInText(min, max) })
    .optional();
}

/** The best of `offered` by an Accept header (RFC 9110, 12.5.1), the first where there is no wish. Null: none will do. */
export function negotiate(accept: string | undefined, offered: readonly string[]): string | null {
  if (accept === undefined || accept.trim() === '') return offered[0] ?? null;
  const ranges = accept.split(',').map((part) => {
    const [range = '', ...parameters] = part.split(';').map((text) => text.trim().toLowerCase());
    const quality = parameters.find((text) => text.startsWith('q='));
    return { range, quality: quality === undefined ? 1 : Number(quality.slice(2)) || 0 };
  });
  const qualityOf = (type: string): number => {
    const [main] = type.split('/');
    const matches = [type, `${main}/*`, '*/*'].map((wanted) => ranges.find(({ range }) => range === wanted));
    return matches.find((match) => match !== undefined)?.quality ?? 0;
  };
  const best = [...offered].sort((a, b) => qualityOf(b) - qualityOf(a))[0];
  return best !== undefined && qualityOf(best) > 0 ? best : null;
}
