// SPDX-License-Identifier: Apache-2.0
/** Typed access to BPF maps. Layouts (BTF, codecs, generated types) have modules of their own beside this one. */
export { ArrayMap } from './array-map.ts';
export type { RawEntries } from './batch.ts';
export { CpuMap, type CpuMapEntry, maxCpuQueuePackets } from './cpu-map.ts';
export { HashMap } from './hash-map.ts';
export { checkLayout, declaredLayouts } from './layout-check.ts';
export { BpfMap, type MapDefinition, type MapLayouts } from './map.ts';
export { type MapShape, mapTypeName } from './map-errors.ts';
export { MapOfMaps } from './map-of-maps.ts';
export { type ArrayWindow, MappedArray, type MappedArrayOptions } from './mapped-array.ts';
export { PerCpuArray } from './per-cpu-array.ts';
export { ProgArray } from './prog-array.ts';
export { RingBuffer } from './ring-buffer.ts';
export { bytesCodec, u32Codec, u64Codec } from './scalars.ts';
