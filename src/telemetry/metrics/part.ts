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

/** A part as reports show it: either the one or the reason why it is not there. */
export interface Measured<T> {
  value: T | null;
  unavailable: string | null;
}

export function measured<T, U>(part: Part<T>, of: (value: T) => U): Measured<U> {
  return isUnavailable(part) ? { value: null, unavailable: part.unavailable } : { value: of(part), unavailable: null };
}
