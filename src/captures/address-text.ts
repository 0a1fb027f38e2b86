// SPDX-License-Identifier: Apache-2.0
/** Canonical text of addresses. */

const mappedPrefix = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: -1, length: 0 };
  let length = 0;
  groups.forEach((group, index) => {
    length = group === 0 ? length + 1 : 0;
    if (length > best.length) best = { start: index - length + 1, length };
  });
  return best;
}

/** 16 bytes, IPv4 as v4-mapped: dotted decimal for IPv4, RFC 5952 for IPv6. */
export function addressText(address: Uint8Array): string {
  if (mappedPrefix.every((byte, index) => address[index] === byte)) return address.subarray(12).join('.');
  const groups = Array.from({ length: 8 }, (_, index) => (address[2 * index]! << 8) | address[2 * index + 1]!);
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':');
  const run = longestZeroRun(groups);
  // RFC 5952, 4.2.2: one group alone is not shortened.
  if (run.length < 2) return hex(groups);
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}`;
}
