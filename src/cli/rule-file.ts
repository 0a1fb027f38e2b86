// SPDX-License-Identifier: Apache-2.0
/** Rules in files: a JSON array, a YAML list, or one JSON object a line (NDJSON). */
import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { parseDocument, stringify } from 'yaml';
import { VnicError } from '../errors.ts';
import type { RuleInput } from '../steering/rules/schema.ts';

export type RuleFileFormat = 'json' | 'yaml' | 'ndjson';

/** A file's text; `-` is stdin. Throws `not_found`, `not_permitted`, `failed`. */
export async function readText(file: string): Promise<string> {
  if (file === '-') return await readAll(process.stdin);
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const errorCode = code === 'ENOENT' ? 'not_found' : code === 'EACCES' ? 'not_permitted' : 'failed';
    throw new VnicError(errorCode, `${file} cannot be read: ${(cause as Error).message}`, {
      remedy: 'Check the path and its permissions; - is stdin.',
      cause,
    });
  }
}

function invalid(file: string, what: string, cause: unknown): VnicError {
  return new VnicError('invalid_rule', `${file}: ${what}`, {
    remedy: 'Give a JSON array, a YAML list, or one JSON object a line.',
    cause,
  });
}

function parseJson(text: string, file: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalid(file, `${where}not valid JSON: ${(cause as Error).message}`, cause);
  }
}

function parseLines(text: string, file: string): unknown[] {
  return text
    .split('\n')
    .map((line, index) => ({ line: line.trim(), number: index + 1 }))
    .filter(({ line }) => line !== '')
    .map(({ line, number }) => parseJson(line, file, `line ${number}: `));
}

function parseYaml(text: string, file: string): unknown {
  const document = parseDocument(text, { prettyErrors: true });
  const [error] = document.errors;
  if (error !== undefined) throw invalid(file, `not valid YAML: ${error.message.split('\n')[0]}`, error);
  return document.toJS();
}

/** The rules of a file, not looked at yet; one rule alone is a list of one. Throws `invalid_rule`. */
export function parseRuleFile(text: string, file: string): unknown[] {
  const content = parseContent(text, file);
  if (Array.isArray(content)) return content as unknown[];
  if (content === null || content === undefined) return [];
  if (typeof content === 'object') return [content];
  throw invalid(file, 'it holds no rules', undefined);
}

function parseContent(text: string, file: string): unknown {
  const start = text.trimStart();
  if (start.startsWith('[')) return parseJson(text, file, '');
  if (!start.startsWith('{')) return parseYaml(text, file);
  try {
    return JSON.parse(text);
  } catch {
    // Several objects, one a line.
    return parseLines(text, file);
  }
}

export function formatRules(rules: readonly RuleInput[], format: RuleFileFormat): string {
  switch (format) {
    case 'json':
      return JSON.stringify(rules, null, 2);
    case 'yaml':
      return stringify(rules, { lineWidth: 0 }).trimEnd();
    case 'ndjson':
      return rules.map((rule) => JSON.stringify(rule)).join('\n');
  }
}
