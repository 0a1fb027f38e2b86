// SPDX-License-Identifier: Apache-2.0
/**
 * Problems found in what a user wrote. All of them are collected before one error is thrown, so that a file is
 * corrected in one go.
 */
import { z } from 'zod';
import { type ErrorCode, VnicError } from '../../errors.ts';

export interface Problem {
  /** Where it is, e.g. `devices.eth0.rules[3].match.src`; empty for the whole document. */
  readonly path: string;
  readonly message: string;
  readonly remedy: string;
}

export type Path = readonly PropertyKey[];

export function formatPath(path: Path): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else text += text === '' ? String(part) : `.${String(part)}`;
  }
  return text;
}

/** An object whose unknown fields are refused. Its error text is what ProblemList expects of a schema. */
export function strictObject<Shape extends z.core.$ZodShape>(shape: Shape) {
  const fields = Object.keys(shape).join(', ');
  return z.strictObject(shape, {
    error: (issue) => (issue.code === 'unrecognized_keys' ? fields : `an object with the fields ${fields}`),
  });
}

/** A whole number; the error text is a noun phrase, as for every schema that ProblemList reads. */
export function wholeNumber(min: number, max: number) {
  const expected = `a whole number from ${min} to ${max}`;
  return z.int(expected).min(min, expected).max(max, expected);
}

export class ProblemList {
  readonly problems: Problem[] = [];

  add(path: Path, message: string, remedy: string): void {
    this.problems.push({ path: formatPath(path), message, remedy });
  }

  /** Runs `parse`; a VnicError becomes a problem at `path` and the result is undefined. */
  attempt<T>(path: Path, parse: () => T): T | undefined {
    try {
      return parse();
    } catch (error) {
      if (!(error instanceof VnicError)) throw error;
      this.add(path, error.message, error.remedy ?? 'Correct it.');
      return undefined;
    }
  }

  /**
   * Checks `input` against a schema whose error texts are noun phrases ("a whole number from 1 to 64").
   * Gives undefined, and records why, if it does not fit.
   */
  check<Schema extends z.ZodType>(schema: Schema, input: unknown, path: Path): z.output<Schema> | undefined {
    const result = schema.safeParse(input);
    if (result.success) return result.data;
    for (const issue of result.error.issues) {
      const where = [...path, ...issue.path];
      if (issue.code === 'unrecognized_keys') {
        // Without a text of its own the issue names every key that is wrong, in the remedy of each of them.
        const isOwnText = !issue.message.startsWith('Unrecognized key');
        const remedy = isOwnText ? `The fields here are: ${issue.message}.` : 'Leave it out.';
        for (const key of issue.keys) this.add([...where, key], `unknown field ${JSON.stringify(key)}`, remedy);
        continue;
      }
      const value = valueAt(input, issue.path);
      const message = value === undefined ? 'is missing' : `${show(value)} is not ${issue.message}`;
      this.add(where, message, `Give ${issue.message}.`);
    }
    return undefined;
  }

  /**
   * As check(), but gives the fields that fit, at any depth, so that reading goes on and finds the problems in them
   * too. Whoever recorded problems has to throw in the end: a field that the type says is there may be missing.
   */
  checkFields<Schema extends z.ZodObject>(schema: Schema, input: unknown, path: Path): Partial<z.output<Schema>> {
    return this.check(schema, input, path) ?? (fittingFields(schema, input) as Partial<z.output<Schema>>);
  }

  /** Throws one error that carries every problem in `details.problems`; does nothing if there is none. */
  throwIfAny(code: ErrorCode, subject: string): void {
    const [first] = this.problems;
    if (first === undefined) return;
    const where = first.path === '' ? '' : `${first.path}: `;
    const count = this.problems.length;
    const message =
      count === 1
        ? `${subject}: ${where}${first.message}`
        : `${subject}: ${count} problems, the first: ${where}${first.message}`;
    throw new VnicError(code, message, { remedy: first.remedy, details: { problems: this.problems } });
  }
}

function fittingFields(schema: z.ZodObject, input: unknown): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  if (typeof input !== 'object' || input === null || Array.isArray(input)) return fields;
  for (const [name, field] of Object.entries(schema.shape)) {
    const value = (input as Record<string, unknown>)[name];
    if (value === undefined) continue;
    const result = z.safeParse(field, value);
    const inner = field instanceof z.ZodOptional ? field.unwrap() : field;
    if (result.success) fields[name] = result.data;
    else if (inner instanceof z.ZodObject) fields[name] = fittingFields(inner, value);
  }
  return fields;
}

function valueAt(input: unknown, path: Path): unknown {
  let value = input;
  for (const part of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
