// SPDX-License-Identifier: Apache-2.0
/** Readers of option values. Each throws commander's error, which names the option. */
import { InvalidArgumentError } from 'commander';

/** A whole number from `min` to `max`. */
export function wholeNumberFrom(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`Give a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

export function positiveNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || value <= 0) throw new InvalidArgumentError('Give a number above 0.');
  return value;
}

/** Digits as a number; anything else as it is, for the rule's own check to name the field. */
export function numberOrText(text: string): number | string {
  return /^\d+$/.test(text) ? Number(text) : text;
}

/** Gathers an option that is given several times; values may also stand together, with commas. */
export function gather(text: string, earlier: string[] | undefined): string[] {
  return [...(earlier ?? []), ...text.split(',').map((part) => part.trim())];
}
