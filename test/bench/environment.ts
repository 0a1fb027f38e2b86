// SPDX-License-Identifier: Apache-2.0
/** Settings of a benchmark from the environment. */
export function fromEnvironment(name: string, usual: number): number {
  const value = Number(process.env[name] ?? usual);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new Error(`${name} must be a whole number from 1, not ${process.env[name]}`);
}
