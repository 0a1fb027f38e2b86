// SPDX-License-Identifier: Apache-2.0
/** Selectors: which nodes a part of the policy is for, by their labels. Pure. */

export type Labels = Readonly<Record<string, string>>;

/** Every label that the selector names has to have that value; an empty one selects all nodes. */
export function selects(selector: Labels, labels: Labels): boolean {
  return Object.entries(selector).every(([name, value]) => labels[name] === value);
}

/** Whether a node could be selected by both. */
export function canMeet(a: Labels, b: Labels): boolean {
  return Object.entries(a).every(([name, value]) => b[name] === undefined || b[name] === value);
}

export function selectorText(selector: Labels): string {
  const parts = Object.entries(selector).map(([name, value]) => `${name}=${value}`);
  return parts.length === 0 ? 'all nodes' : parts.join(',');
}
