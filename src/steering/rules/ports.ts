// SPDX-License-Identifier: Apache-2.0
/** Port ranges: as users write them, and as prefixes of the 16-bit port, which a masked hash key can express. */
import { VnicError } from '../../errors.ts';
import { MAX_PORT, type PortRange } from './model.ts';

export interface PortPrefix {
  readonly value: number;
  /** 0 to 16. */
  readonly bits: number;
}

const anyPort: readonly PortPrefix[] = [{ value: 0, bits: 0 }];

/** The fewest prefixes that hold exactly the range, ascending; at most 30. */
export function portPrefixes(range: PortRange | undefined): readonly PortPrefix[] {
  if (range === undefined) return anyPort;
  const prefixes: PortPrefix[] = [];
  let first = range.first;
  while (first <= range.last) {
    // The largest block that starts here: as aligned as `first`, and not beyond the end.
    let size = first === 0 ? 65536 : first & -first;
    while (first + size - 1 > range.last) size /= 2;
    prefixes.push({ value: first, bits: 16 - Math.log2(size) });
    first += size;
  }
  return prefixes;
}

export function portMask(bits: number): number {
  return (0xffff << (16 - bits)) & 0xffff;
}

/** 53, "53" or "1024-65535". Throws invalid_rule. */
export function parsePorts(input: string | number): PortRange {
  const parts = /^\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?$/.exec(String(input));
  const first = Number(parts?.[1]);
  const last = parts?.[2] === undefined ? first : Number(parts[2]);
  if (parts === null || first > MAX_PORT || last > MAX_PORT) {
    throw new VnicError('invalid_rule', `${JSON.stringify(input)} is not a port or a range of ports`, {
      remedy: `Give a number from 0 to ${MAX_PORT} or a range such as "1024-65535".`,
    });
  }
  if (first > last) {
    throw new VnicError('invalid_rule', `port range "${input}" ends before it starts`, {
      remedy: `Write "${last}-${first}".`,
    });
  }
  return { first, last };
}
