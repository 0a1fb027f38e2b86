// SPDX-License-Identifier: Apache-2.0
/** What the kernel's answers about maps mean, in the product's own codes. */
import { constants } from 'node:os';

import { VnicError } from '../errors.ts';
import { errnoName, type LibbpfCall, type Native } from '../loader/ffi/index.ts';
import { BpfMapType } from './generated/host.ts';

export const { E2BIG, EEXIST, EINVAL, ENODEV, ENOENT, ENOMEM, ENOSPC, EOPNOTSUPP } = constants.errno;

/** The kernel's own "operation not supported", which is in no user space header (include/linux/errno.h). */
export const ENOTSUPP = 524;

export interface MapShape {
  readonly type: BpfMapType;
  readonly name: string;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes; of per-CPU maps: of one CPU's value. */
  readonly valueSize: number;
  readonly maxEntries: number;
}

/** `lpmTrie` for 11. */
export function mapTypeName(type: number): string {
  return Object.entries(BpfMapType).find(([, value]) => value === type)?.[0] ?? `type ${type}`;
}

function capacityMessage({ name, maxEntries }: MapShape, errno: number): string {
  if (errno === ENOMEM) return `The kernel has no memory for another entry of map ${name} (max_entries ${maxEntries}).`;
  return `Map ${name} is full: it has room for ${maxEntries} entries (max_entries).`;
}

/**
 * Returns `result` unless it is a negative errno. Throws `capacity_exceeded` (E2BIG, ENOSPC, ENOMEM), `conflict`
 * (EEXIST), `not_found` (ENOENT), else what `native.check` throws.
 */
export function checkMap(native: Native, map: MapShape, result: number, call: LibbpfCall): number {
  if (result >= 0) return result;
  const errno = -result;
  const details = { map: map.name, maxEntries: map.maxEntries, errno: errnoName(errno), errnoNumber: errno, call };
  switch (errno) {
    case E2BIG:
    case ENOSPC:
    case ENOMEM:
      throw new VnicError('capacity_exceeded', capacityMessage(map, errno), {
        remedy: 'Ask for fewer entries, or attach with a larger table.',
        details,
      });
    case EEXIST:
      throw new VnicError('conflict', `Map ${map.name} has an entry under this key already.`, { details });
    case ENOENT:
      throw new VnicError('not_found', `Map ${map.name} has no entry under this key.`, { details });
    default:
      return native.check(result, call, `map ${map.name}`);
  }
}

/** Throws `abi_mismatch` unless the map is of one of the types and its keys and values have these sizes, in bytes. */
export function expectShape(
  map: MapShape,
  expected: { types: readonly BpfMapType[]; keySize: number; valueSize: number },
): void {
  const { types, keySize, valueSize } = expected;
  if (types.includes(map.type) && map.keySize === keySize && map.valueSize === valueSize) return;
  const wanted = `${types.map(mapTypeName).join(' or ')} with keys of ${keySize} and values of ${valueSize} bytes`;
  const found = `${mapTypeName(map.type)} with keys of ${map.keySize} and values of ${map.valueSize} bytes`;
  throw new VnicError('abi_mismatch', `Map ${map.name} is a ${found}; expected: ${wanted}.`, {
    remedy: 'Attach again with this version, or use the version that made the map.',
    details: { map: map.name, expected: wanted, actual: found },
  });
}

/** Throws `capacity_exceeded` unless `index` names an element of the array. */
export function checkIndex(map: MapShape, index: number): void {
  if (Number.isInteger(index) && index >= 0 && index < map.maxEntries) return;
  throw new VnicError('capacity_exceeded', `Map ${map.name} has ${map.maxEntries} elements, but no element ${index}.`, {
    remedy: 'Name an element that exists, or attach with a larger table.',
    details: { map: map.name, maxEntries: map.maxEntries, index },
  });
}
