// SPDX-License-Identifier: Apache-2.0
/** What a change of rules did, as it is printed. */
import type { Output } from '../api/client.ts';
import type { Context } from './context.ts';
import { count } from './output.ts';

export type RuleChanges = Output<'patchRules'>;

export async function printChanges(context: Context, changes: RuleChanges): Promise<void> {
  for (const { message } of changes.warnings) context.warn(message);
  await context.print(changes, () => changesText(changes));
}

const MAX_IDS = 20;

function changesText(changes: RuleChanges): string {
  const list = (ids: readonly number[]): string =>
    `${ids.slice(0, MAX_IDS).join(', ')}${ids.length > MAX_IDS ? ` and ${ids.length - MAX_IDS} more` : ''}`;
  const parts = (['added', 'changed', 'removed'] as const).flatMap((kind) => {
    const ids = changes[kind];
    return ids.length === 0
      ? []
      : [`${count(ids.length, 'rule')} ${changes.performed ? '' : 'would be '}${kind} (${list(ids)})`];
  });
  return `${changes.device}: ${parts.length === 0 ? 'nothing to change' : parts.join(', ')}`;
}
