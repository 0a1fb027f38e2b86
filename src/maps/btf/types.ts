// SPDX-License-Identifier: Apache-2.0
/** BTF as the format has it: one variant for each kind. Source: Linux Documentation/bpf/btf.rst, include/uapi/linux/btf.h. */

export interface BtfMember {
  name: string;
  typeId: number;
  /** From the start of the struct. */
  bitOffset: number;
  /** 0: not a bit field. */
  bitWidth: number;
}

export interface BtfEnumerator {
  name: string;
  value: bigint;
}

export interface BtfParameter {
  name: string;
  typeId: number;
}

export interface BtfSectionVariable {
  typeId: number;
  offset: number;
  size: number;
}

export type BtfIntEncoding = 'none' | 'signed' | 'char' | 'bool';

/** `name` is '' where BTF has none; `typeId` 0 is void. */
export type BtfType =
  | { kind: 'void'; name: '' }
  | { kind: 'int'; name: string; size: number; encoding: BtfIntEncoding; bitOffset: number; bits: number }
  | { kind: 'float'; name: string; size: number }
  | { kind: 'ptr' | 'volatile' | 'const' | 'restrict'; name: string; typeId: number }
  | { kind: 'typedef' | 'typeTag'; name: string; typeId: number }
  | { kind: 'array'; name: string; elementTypeId: number; indexTypeId: number; length: number }
  | { kind: 'struct' | 'union'; name: string; size: number; members: BtfMember[] }
  | { kind: 'enum' | 'enum64'; name: string; size: number; signed: boolean; enumerators: BtfEnumerator[] }
  | { kind: 'fwd'; name: string; of: 'struct' | 'union' }
  | { kind: 'func'; name: string; typeId: number; linkage: number }
  | { kind: 'funcProto'; name: string; returnTypeId: number; parameters: BtfParameter[] }
  | { kind: 'var'; name: string; typeId: number; linkage: number }
  | { kind: 'datasec'; name: string; size: number; variables: BtfSectionVariable[] }
  /** componentIndex -1: the tag is of the type itself, not of a member or parameter. */
  | { kind: 'declTag'; name: string; typeId: number; componentIndex: number };

export type BtfKind = BtfType['kind'];
