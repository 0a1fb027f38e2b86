// SPDX-License-Identifier: Apache-2.0
/** From BTF ids to plain layouts: sizes, offsets, names, signs and byte orders, without typedefs and qualifiers. */
import { damaged } from './cursor.ts';
import type { Btf } from './parse.ts';
import type { BtfEnumerator } from './types.ts';

export type ByteOrder = 'host' | 'big' | 'little';

export interface IntegerLayout {
  kind: 'integer';
  /** The name in C, the typedef's where there is one. */
  name: string;
  size: number;
  signed: boolean;
  /** text: char, as in a name; boolean: _Bool. */
  use: 'number' | 'text' | 'boolean';
  byteOrder: ByteOrder;
}

export interface EnumLayout {
  kind: 'enum';
  name: string;
  size: number;
  signed: boolean;
  enumerators: readonly BtfEnumerator[];
}

export interface LayoutMember {
  /** '' for an anonymous struct or union, whose members count as the outer one's. */
  name: string;
  /** Bytes from the start of the struct; of a bit field: of the byte in which it begins. */
  offset: number;
  layout: Layout;
  /** Of a bit field: bits from the start of the struct, counted as the byte order does, and its width. */
  bits?: { offset: number; width: number };
}

export interface StructLayout {
  kind: 'struct' | 'union';
  name: string;
  size: number;
  members: readonly LayoutMember[];
}

export type Layout =
  | IntegerLayout
  | EnumLayout
  | StructLayout
  | { kind: 'float'; name: string; size: number }
  | { kind: 'pointer'; name: string; size: number }
  | { kind: 'array'; name: string; size: number; element: Layout; length: number };

/** The targets of BPF and of this product's user space are all 64-bit. */
const pointerSize = 8;

/** Deeper than any real type; damaged BTF can refer to itself. */
const maxDepth = 48;

/** Damaged BTF can also be a small graph with a tree beyond all memory. */
const maxNodes = 200_000;

const byteOrders: Readonly<Record<string, ByteOrder>> = {
  __be16: 'big',
  __be32: 'big',
  __be64: 'big',
  __le16: 'little',
  __le32: 'little',
  __le64: 'little',
};

/** Resolves a type to its layout. Throws `failed` for a type without one (a function, void) and for damaged BTF. */
export function layoutOf(btf: Btf, typeId: number): Layout {
  let nodes = 0;

  function resolve(id: number, depth: number, alias: string, byteOrder: ByteOrder): Layout {
    nodes += 1;
    if (depth > maxDepth || nodes > maxNodes) {
      throw damaged('BTF', `type ${typeId} contains itself`);
    }
    const type = btf.type(id);
    const name = alias === '' ? type.name : alias;
    switch (type.kind) {
      case 'int':
        return {
          kind: 'integer',
          name,
          size: type.size,
          signed: type.encoding === 'signed',
          // clang gives char the encodings "signed" or none with the name, by version and target.
          use:
            type.encoding === 'bool' ? 'boolean' : type.encoding === 'char' || type.name === 'char' ? 'text' : 'number',
          byteOrder,
        };
      case 'float':
        return { kind: 'float', name, size: type.size };
      case 'ptr':
        return { kind: 'pointer', name: 'pointer', size: pointerSize };
      case 'enum':
      case 'enum64':
        return { kind: 'enum', name, size: type.size, signed: type.signed, enumerators: type.enumerators };
      case 'volatile':
      case 'const':
      case 'restrict':
      case 'typeTag':
        return resolve(type.typeId, depth + 1, alias, byteOrder);
      case 'typedef':
        return resolve(type.typeId, depth + 1, name, byteOrders[type.name] ?? byteOrder);
      case 'array': {
        const element = resolve(type.elementTypeId, depth + 1, '', 'host');
        const size = element.size * type.length;
        if (!Number.isSafeInteger(size)) {
          throw damaged('BTF', `array ${id} has ${type.length} elements of ${element.size} bytes`);
        }
        return { kind: 'array', name: '', size, element, length: type.length };
      }
      case 'struct':
      case 'union':
        return {
          kind: type.kind,
          name,
          size: type.size,
          members: type.members.map((member) => {
            const layout = resolve(member.typeId, depth + 1, '', 'host');
            const offset = Math.floor(member.bitOffset / 8);
            const bits = member.bitWidth > 0 ? { offset: member.bitOffset, width: member.bitWidth } : undefined;
            const end = bits === undefined ? offset + layout.size : Math.ceil((bits.offset + bits.width) / 8);
            if (end > type.size) {
              throw damaged(
                'BTF',
                `${type.kind} ${name} has ${type.size} bytes, but its member ${member.name} ends at ${end}`,
              );
            }
            return bits === undefined
              ? { name: member.name, offset, layout }
              : { name: member.name, offset, layout, bits };
          }),
        };
      default:
        throw damaged('BTF', `type ${id} (${type.kind} ${type.name}) has no layout`);
    }
  }

  return resolve(typeId, 0, '', 'host');
}

/**
 * Whether bytes written under one layout mean the same under the other: the names, offsets, sizes, signs and byte
 * orders of all fields. Names of types do not matter.
 */
export function sameLayout(a: Layout, b: Layout): boolean {
  if (a.size !== b.size) {
    return false;
  }
  if (a.kind === 'integer' && b.kind === 'integer') {
    return a.signed === b.signed && a.use === b.use && (a.byteOrder === b.byteOrder || a.size === 1);
  }
  if (a.kind === 'enum' && b.kind === 'enum') {
    return a.signed === b.signed;
  }
  if (a.kind === 'array' && b.kind === 'array') {
    return a.length === b.length && sameLayout(a.element, b.element);
  }
  if ((a.kind === 'struct' || a.kind === 'union') && a.kind === b.kind) {
    return (
      a.members.length === b.members.length && a.members.every((member, index) => sameMember(member, b.members[index]))
    );
  }
  return a.kind === b.kind;
}

function sameMember(a: LayoutMember, b: LayoutMember | undefined): boolean {
  return (
    b !== undefined &&
    a.name === b.name &&
    a.offset === b.offset &&
    a.bits?.offset === b.bits?.offset &&
    a.bits?.width === b.bits?.width &&
    sameLayout(a.layout, b.layout)
  );
}

/** C-like text with the offset of each member, in bytes, and the size. */
export function describeLayout(layout: Layout): string {
  return describe(layout, '', 0, '');
}

function describe(layout: Layout, declarator: string, base: number, indent: string): string {
  const suffix = declarator === '' ? '' : ` ${declarator}`;
  switch (layout.kind) {
    case 'array':
      return describe(layout.element, `${declarator}[${layout.length}]`, base, indent);
    case 'pointer':
      return `void *${declarator}`;
    case 'enum':
      return `enum ${layout.name === '' ? `of ${layout.size} bytes` : layout.name}${suffix}`;
    case 'integer':
    case 'float':
      return `${layout.name}${suffix}`;
    default: {
      const name = layout.name === '' ? '' : ` ${layout.name}`;
      const lines = layout.members.map((member) => {
        const at = base + member.offset;
        const width = member.bits === undefined ? '' : `:${member.bits.width}`;
        const text = describe(member.layout, `${member.name}${width}`, at, `${indent}  `);
        return `${indent}  /* ${at} */ ${text};\n`;
      });
      return `${layout.kind}${name} { /* ${layout.size} bytes */\n${lines.join('')}${indent}}${suffix}`;
    }
  }
}
