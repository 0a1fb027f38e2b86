// SPDX-License-Identifier: Apache-2.0
/** Rules as text: a JSON array, a YAML list, or one JSON object a line (NDJSON). Pure. */
import { parseDocument, stringify } from 'yaml';
import { VnicError } from '../errors.ts';
import type { RuleInput } from '../steering/rules/schema.ts';

export type RuleTextFormat = 'json' | 'yaml' | 'ndjson';

function invalid(source: string, what: string, cause: unknown): VnicError {
  return new VnicError('invalid_rule', `${source}: ${what}`, {
    remedy: 'Give a JSON array, a YAML list, or one JSON object a line.',
    cause,
  });
}

function parseJson(text: string, source: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalid(source, `${where}not valid JSON: ${(cause as Error).message}`, cause);
  }
}

function parseLines(text: string, source: string): unknown[] {
  return text
    .split('\n')
    .map((line, index) => ({ line: line.trim(), number: index + 1 }))
    .filter(({ line }) => line !== '')
    .map(({ line, number }) => parseJson(line, source, `line ${number}: `));
}

function parseYaml(text: string, source: string): unknown {
  // Without its warnings, which it would print.
  const document = parseDocument(text, { prettyErrors: true, logLevel: 'error' });
  const [error] = document.errors;
  if (error !== undefined) throw invalid(source, `not valid YAML: ${error.message.split('\n')[0]}`, error);
  let content: unknown;
  try {
    content = document.toJS();
  } catch (cause) {
    // An alias of nothing, or so many that a few lines would become gigabytes.
    if (cause instanceof ReferenceError) throw invalid(source, `not valid YAML: ${cause.message}`, cause);
    throw cause;
  }
  if (holdsItself(content, new Set())) throw invalid(source, 'an alias stands inside what it names', undefined);
  return content;
}

/** @param around the values that `value` stands in */
function holdsItself(value: unknown, around: Set<unknown>): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (around.has(value)) return true;
  around.add(value);
  const found = Object.values(value).some((inner) => holdsItself(inner, around));
  around.delete(value);
  return found;
}

/** The rules of a text, not looked at yet; one rule alone is a list of one. Throws `invalid_rule`. */
export function parseRuleText(text: string, source: string): unknown[] {
  const content = parseContent(text, source);
  if (Array.isArray(content)) return content as unknown[];
  if (content === null || content === undefined) return [];
  if (typeof content === 'object') return [content];
  throw invalid(source, 'it holds no rules', undefined);
}

function parseContent(text: string, source: string): unknown {
  const start = text.trimStart();
  if (start.startsWith('[')) return parseJson(text, source, '');
  if (!start.startsWith('{')) return parseYaml(text, source);
  try {
    return JSON.parse(text);
  } catch {
    // Several objects, one a line.
    return parseLines(text, source);
  }
}

export function formatRules(rules: readonly RuleInput[], format: RuleTextFormat): string {
  switch (format) {
    case 'json':
      return JSON.stringify(rules, null, 2);
    case 'yaml':
      return stringify(rules, { lineWidth: 0 }).trimEnd();
    case 'ndjson':
      return rules.map((rule) => JSON.stringify(rule)).join('\n');
  }
}
