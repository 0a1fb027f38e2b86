// SPDX-License-Identifier: Apache-2.0
/** Files that commands read. */
import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import type { Call } from '../api/client.ts';
import { VnicError } from '../errors.ts';

type RuleBody = NonNullable<NonNullable<Call<'patchRules'>['body']>['add']>[number];

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

/** The rules of a file, to be sent: what they say is checked where they are used. Throws `invalid_rule`, as readText. */
export async function readRules(file: string): Promise<RuleBody[]> {
  const text = await readText(file);
  const { parseRuleText } = await import('../config/rule-text.ts');
  return parseRuleText(text, file) as RuleBody[];
}
