// SPDX-License-Identifier: Apache-2.0
/** If-Match and If-None-Match (RFC 9110, 13.1): a change is made only to what the client has seen. Pure. */
import { VnicError } from '../errors.ts';
import type { ApiRequest } from './operation.ts';

/**
 * Throws `precondition_failed`.
 * @param tag strong entity tag of what is there, with its quotes; null: nothing is there
 */
export function checkPreconditions(headers: ApiRequest['headers'], tag: string | null, what: string): void {
  const match = headers['if-match'];
  if (match !== undefined && !listsTag(match, tag)) {
    throw new VnicError('precondition_failed', `${what} is not the one that If-Match names (${match}).`, {
      remedy: 'Read it again, make the change to what is there now, and send its ETag.',
      details: { etag: tag },
    });
  }
  const noneMatch = headers['if-none-match'];
  if (noneMatch !== undefined && listsTag(noneMatch, tag)) {
    throw new VnicError('precondition_failed', `${what} is there, which If-None-Match (${noneMatch}) rules out.`, {
      remedy: 'Leave If-None-Match out to replace it.',
      details: { etag: tag },
    });
  }
}

/** Strong comparison: a weak tag never equals. `*` lists whatever is there. */
function listsTag(list: string, tag: string | null): boolean {
  if (tag === null) return false;
  if (list.trim() === '*') return true;
  return list.split(',').some((part) => part.trim() === tag);
}
