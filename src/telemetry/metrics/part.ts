// SPDX-License-Identifier: Apache-2.0
/** Something that may not be there to be measured, with the reason in words for the user. */

export interface Unavailable {
  readonly unavailable: string;
}

export type Part<T> = T | Unavailable;

export function unavailable(reason: string): Unavailable {
  return { unavailable: reason };
}

export function isUnavailable(part: unknown): part is Unavailable {
  return typeof part === 'object' && part !== null && 'unavailable' in part;
}
