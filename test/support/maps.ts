// SPDX-License-Identifier: Apache-2.0
/** What the map tests share: the types of test/bpf/maps.bpf.c and a kernel that is disturbed on purpose. */
import type { LibbpfFunctions, Native } from '../../src/loader/ffi/index.ts';
import { BpfObject, type ObjectSettings } from '../../src/loader/object.ts';
import { hostLittleEndian, putBytes, putU16, putU32, readBytes, structCodec } from '../../src/maps/codec.ts';
import { BpfMapType, MapFlag } from '../../src/maps/generated/host.ts';
import { BpfMap, type MapDefinition } from '../../src/maps/index.ts';
import { compileTestProgram } from './compile.ts';

export interface Cell {
  input: number;
  output: number;
  weight: number;
  name: Uint8Array;
}

/** `struct cell` */
export const Cell = structCodec<Cell>({
  name: 'cell',
  size: 12,
  offsets: { input: 0, output: 4, weight: 8, name: 10 },
  read: (view, at) => ({
    input: view.getUint32(at, hostLittleEndian),
    output: view.getUint32(at + 4, hostLittleEndian),
    weight: view.getUint16(at + 8, hostLittleEndian),
    name: readBytes(view, at + 10, 2),
  }),
  put(view, at, value) {
    putU32(view, at, value.input, hostLittleEndian, 'cell.input');
    putU32(view, at + 4, value.output, hostLittleEndian, 'cell.output');
    putU16(view, at + 8, value.weight, hostLittleEndian, 'cell.weight');
    putBytes(view, at + 10, 2, value.name, 'cell.name');
  },
});

export function loadMapsObject(native: Native, settings: ObjectSettings = {}): BpfObject {
  return BpfObject.load(native, compileTestProgram('maps'), settings);
}

/** A map of u32 -> u64 unless something else is asked for. */
export function createMap(native: Native, definition: Partial<MapDefinition> = {}): BpfMap {
  const type = definition.type ?? BpfMapType.hash;
  const flags = type === BpfMapType.lpmTrie ? MapFlag.noPrealloc : 0;
  return BpfMap.create(native, {
    type,
    name: 'vnic_test',
    keySize: 4,
    valueSize: 8,
    maxEntries: 16,
    flags,
    ...definition,
  });
}

/** The real kernel, with some of libbpf's functions replaced. */
export function disturbed(native: Native, replaced: Partial<LibbpfFunctions>): Native {
  return { ...native, libbpf: { ...native.libbpf, ...replaced } };
}
