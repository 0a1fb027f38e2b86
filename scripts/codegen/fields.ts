// SPDX-License-Identifier: Apache-2.0
/** The fields of a struct as a codec shows them. */
import type { Layout, LayoutMember, StructLayout } from '../../src/maps/btf/index.ts';
import { camelCase } from './names.ts';

export interface Field {
  /** In TypeScript. */
  name: string;
  /** In C, from the struct: `bpf_prog.fd`. */
  path: string;
  /** Bytes from the start of the struct. */
  offset: number;
  layout: Layout;
  /** Of a bit field: from bit `first` of the byte at `offset`. */
  bits?: { first: number; width: number };
}

/** The fields to keep of a struct: path in C to name in TypeScript. */
export type Picks = Readonly<Record<string, string>>;

/** Padding carries nothing: a codec writes it as zero and does not show it. */
const padding = /^_*(pad|padding|reserved)\d*$/;

/**
 * The fields of a struct. Anonymous structs and unions give theirs to the struct around them; the fields of a named
 * member of an anonymous type get its name in front (`bpf_prog.fd` is `bpfProgFd`). With `picks`, fields of other paths
 * are left out.
 */
export function fieldsOf(struct: StructLayout, picks?: Picks): Field[] {
  const fields: Field[] = [];

  function collect(members: readonly LayoutMember[], prefix: string, base: number): void {
    for (const member of members) {
      const { layout } = member;
      const path = member.name === '' ? prefix : prefix === '' ? member.name : `${prefix}.${member.name}`;
      const offset = base + member.offset;
      if (isStruct(layout) && layout.name === '') {
        collect(layout.members, path, offset);
      } else if (!padding.test(member.name) && (picks === undefined || Object.hasOwn(picks, path))) {
        const name = picks?.[path] ?? camelCase(path.replaceAll('.', '_'));
        const bits = member.bits;
        fields.push(
          bits === undefined
            ? { name, path, offset, layout }
            : { name, path, offset, layout, bits: { first: bits.offset - member.offset * 8, width: bits.width } },
        );
      }
    }
  }

  collect(struct.members, '', 0);
  return fields;
}

export function isStruct(layout: Layout): layout is StructLayout {
  return layout.kind === 'struct' || layout.kind === 'union';
}
