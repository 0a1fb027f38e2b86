// SPDX-License-Identifier: Apache-2.0
/** What a map declared in section ".maps" holds. Source: libbpf, the macros __type and __array of bpf_helpers.h. */
import { VnicError } from '../../errors.ts';
import { damaged } from './cursor.ts';
import type { Btf } from './parse.ts';

export interface MapTypes {
  /** BTF ids; undefined where the declaration gives only a size (key_size, value_size). */
  keyTypeId: number | undefined;
  valueTypeId: number | undefined;
}

/** BTF ids of the key and value of the map declared under that name. Throws `not_found` when the object has no such map. */
export function mapTypes(btf: Btf, mapName: string): MapTypes {
  const section = btf.find('.maps', 'datasec');
  const maps = section === undefined ? undefined : btf.type(section);
  const variables = maps?.kind === 'datasec' ? maps.variables.map((variable) => btf.type(variable.typeId)) : [];
  const variable = variables.find((candidate) => candidate.kind === 'var' && candidate.name === mapName);
  if (variable?.kind !== 'var') {
    throw new VnicError('not_found', `The object file declares no map named ${mapName}.`, {
      remedy: 'Use the object file of the same version as the program.',
    });
  }
  const declaration = btf.type(withoutAliases(btf, variable.typeId));
  if (declaration.kind !== 'struct') {
    throw damaged('BTF', `the map ${mapName} is declared as ${declaration.kind}, not as struct`);
  }
  const target = (name: string): number | undefined => {
    const member = declaration.members.find((candidate) => candidate.name === name);
    const pointer = member === undefined ? undefined : btf.type(member.typeId);
    return pointer?.kind === 'ptr' ? pointer.typeId : undefined;
  };
  return { keyTypeId: target('key'), valueTypeId: target('value') };
}

function withoutAliases(btf: Btf, typeId: number): number {
  let id = typeId;
  for (let steps = 0; steps < btf.types.length; steps++) {
    const type = btf.type(id);
    if (type.kind !== 'typedef' && type.kind !== 'const' && type.kind !== 'volatile') {
      return id;
    }
    id = type.typeId;
  }
  throw damaged('BTF', `type ${typeId} is an alias of itself`);
}
