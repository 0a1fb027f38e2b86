// SPDX-License-Identifier: Apache-2.0
/** Whether a map that exists already holds what this version reads and writes. */
import { VnicError } from '../errors.ts';
import { type Btf, describeLayout, type Layout, layoutOf, mapTypes, sameLayout } from './btf/index.ts';
import type { BpfMap, MapLayouts } from './map.ts';

/** The layouts of a map as a compiled object declares it. Throws `not_found` when it declares no such map. */
export function declaredLayouts(btf: Btf, mapName: string): MapLayouts {
  const { keyTypeId, valueTypeId } = mapTypes(btf, mapName);
  return {
    key: keyTypeId === undefined ? undefined : layoutOf(btf, keyTypeId),
    value: valueTypeId === undefined ? undefined : layoutOf(btf, valueTypeId),
  };
}

/**
 * Throws `abi_mismatch`, with both layouts in its details, unless the map's keys and values are laid out as expected.
 * Of a map without BTF, and of a part that BTF does not describe, the size alone is compared; a part that is expected
 * to be undefined is not compared.
 *
 * @param known as of `BpfMap.btf`
 */
export function checkLayout(map: BpfMap, expected: MapLayouts, known?: Map<number, Btf>): void {
  const actual = map.btf(known);
  checkPart(map, 'key', expected.key, actual?.key, map.keySize);
  checkPart(map, 'value', expected.value, actual?.value, map.valueSize);
}

function checkPart(
  map: BpfMap,
  part: 'key' | 'value',
  expected: Layout | undefined,
  actual: Layout | undefined,
  actualSize: number,
): void {
  if (expected === undefined) return;
  const same = actual === undefined ? expected.size === actualSize : sameLayout(expected, actual);
  if (same && expected.size === actualSize) return;
  const difference =
    actual === undefined || actual.size !== actualSize
      ? sizeDifference(expected.size, actualSize)
      : firstDifference(expected, actual, '');
  throw new VnicError('abi_mismatch', `The ${part} of map ${map.name} has another layout: ${difference}.`, {
    remedy: 'Detach with the version that made the map, then attach with this one.',
    details: {
      map: map.name,
      part,
      expected: describeLayout(expected),
      actual: actual === undefined ? `${actualSize} bytes, not described` : describeLayout(actual),
    },
  });
}

function sizeDifference(expected: number, actual: number): string {
  return `${expected} bytes are expected, it has ${actual}`;
}

/** Names the first field that differs; for people, so one is enough. */
function firstDifference(expected: Layout, actual: Layout, path: string): string {
  const where = path === '' ? '' : `${path}: `;
  if (isStruct(expected) && isStruct(actual)) {
    for (const [index, member] of expected.members.entries()) {
      const other = actual.members[index];
      const name = path === '' ? member.name : `${path}.${member.name}`;
      if (other === undefined) return `${name} is missing`;
      if (other.name !== member.name) return `${where}${member.name} is expected where it has ${other.name}`;
      if (other.offset !== member.offset) {
        return `${name} is expected at byte ${member.offset}, it is at byte ${other.offset}`;
      }
      if (!sameLayout(member.layout, other.layout)) return firstDifference(member.layout, other.layout, name);
      if (member.bits?.offset !== other.bits?.offset || member.bits?.width !== other.bits?.width) {
        return `${name} has other bits`;
      }
    }
    const extra = actual.members[expected.members.length];
    if (extra !== undefined) return `${where}it has the unexpected field ${extra.name}`;
  }
  if (expected.kind === 'array' && actual.kind === 'array' && !sameLayout(expected.element, actual.element)) {
    return firstDifference(expected.element, actual.element, `${path}[]`);
  }
  if (expected.size !== actual.size) return `${where}${sizeDifference(expected.size, actual.size)}`;
  return `${where}${describeLayout(expected)} is expected, it is ${describeLayout(actual)}`;
}

function isStruct(layout: Layout): layout is Extract<Layout, { members: unknown }> {
  return layout.kind === 'struct' || layout.kind === 'union';
}
