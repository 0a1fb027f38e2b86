// SPDX-License-Identifier: Apache-2.0
export { elfSection, elfSections } from './elf.ts';
export {
  type ByteOrder,
  describeLayout,
  type EnumLayout,
  type IntegerLayout,
  type Layout,
  type LayoutMember,
  layoutOf,
  type StructLayout,
  sameLayout,
} from './layout.ts';
export { type MapTypes, mapTypes } from './map-types.ts';
export { Btf, parseBtf, parseObjectBtf } from './parse.ts';
export type { BtfEnumerator, BtfKind, BtfMember, BtfType } from './types.ts';
