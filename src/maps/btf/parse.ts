// SPDX-License-Identifier: Apache-2.0
/** Parser of raw BTF. Source: Linux Documentation/bpf/btf.rst, include/uapi/linux/btf.h. */
import { VnicError } from '../../errors.ts';
import { Cursor, damaged } from './cursor.ts';
import { elfSection, elfSymbols } from './elf.ts';
import type { BtfIntEncoding, BtfKind, BtfType } from './types.ts';

const what = 'BTF';
const magic = 0xeb9f;
const headerSize = 24;

type Datasec = Extract<BtfType, { kind: 'datasec' }>;

const intEncodings: Readonly<Record<number, BtfIntEncoding>> = { 0: 'none', 1: 'signed', 2: 'char', 4: 'bool' };

/** Parsed BTF: types by id; id 0 is void. */
export class Btf {
  readonly littleEndian: boolean;
  readonly types: readonly BtfType[];
  readonly #idsByName = new Map<string, number[]>();

  constructor(types: readonly BtfType[], littleEndian: boolean) {
    this.types = types;
    this.littleEndian = littleEndian;
    types.forEach((type, id) => {
      const ids = this.#idsByName.get(type.name);
      if (ids === undefined) {
        this.#idsByName.set(type.name, [id]);
      } else {
        ids.push(id);
      }
    });
  }

  /** Throws `failed` when there is no such type. */
  type(id: number): BtfType {
    const type = this.types[id];
    if (type === undefined) {
      throw damaged(what, `type ${id} is named but does not exist`);
    }
    return type;
  }

  /** Id of the first type of that name and of one of the kinds, or undefined. */
  find(name: string, ...kinds: BtfKind[]): number | undefined {
    return this.#idsByName.get(name)?.find((id) => kinds.includes(this.type(id).kind));
  }

  /** As find(); throws `failed` when there is none. */
  idOf(name: string, ...kinds: BtfKind[]): number {
    const id = this.find(name, ...kinds);
    if (id === undefined) {
      throw new VnicError('failed', `The BTF has no ${kinds.join(' or ')} named ${name}.`, {
        remedy: 'Build the object with debug information (clang -g) and refer to the type in it.',
      });
    }
    return id;
  }
}

/** Parses the BTF of a compiled object; variables stand at their places in the object. Throws `failed` when it has none or is damaged. */
export function parseObjectBtf(object: Uint8Array): Btf {
  const section = elfSection(object, '.BTF');
  if (section === undefined) {
    throw new VnicError('failed', 'The object file has no .BTF section.', { remedy: 'Compile it with clang -g.' });
  }
  const btf = parseBtf(section);
  const offsets = new Map(elfSymbols(object).map((symbol) => [`${symbol.section} ${symbol.name}`, symbol.offset]));
  return new Btf(
    btf.types.map((type) => (type.kind === 'datasec' ? placeVariables(btf, type, offsets) : type)),
    btf.littleEndian,
  );
}

/**
 * Compilers leave the offsets of global variables at 0, because only the linker knows them; the symbols of the object
 * have them. libbpf does the same (btf_fixup_datasec in libbpf.c).
 */
function placeVariables(btf: Btf, section: Datasec, offsets: ReadonlyMap<string, number>): Datasec {
  const variables = section.variables.map((variable) => {
    const { name } = btf.type(variable.typeId);
    return { ...variable, offset: offsets.get(`${section.name} ${name}`) ?? variable.offset };
  });
  return { ...section, variables };
}

/** Parses raw BTF of either byte order, as in a .BTF section, in /sys/kernel/btf/vmlinux or as the kernel gives it. */
export function parseBtf(bytes: Uint8Array): Btf {
  const littleEndian = bytes[0] === (magic & 0xff);
  const cursor = new Cursor(bytes, littleEndian, what);
  if (cursor.u16(0) !== magic) {
    throw damaged(what, 'it does not begin with the magic number eb9f');
  }
  if (cursor.u8(2) !== 1) {
    throw damaged(what, `its version is ${cursor.u8(2)}, not 1`);
  }
  const headerLength = cursor.u32(4);
  if (headerLength < headerSize) {
    throw damaged(what, `its header says that it is ${headerLength} bytes long, less than ${headerSize}`);
  }
  const typeBytes = cursor.slice(headerLength + cursor.u32(8), cursor.u32(12));
  const strings = new Strings(cursor.slice(headerLength + cursor.u32(16), cursor.u32(20)));
  const types = new TypeReader(new Cursor(typeBytes, littleEndian, what), strings).readAll();
  types.forEach((type, id) => {
    for (const reference of references(type)) {
      if (reference >= types.length) {
        throw damaged(what, `type ${id} refers to type ${reference}, but there are ${types.length}`);
      }
    }
  });
  return new Btf(types, littleEndian);
}

class Strings {
  readonly #bytes: Buffer;
  readonly #known = new Map<number, string>();

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  at(offset: number): string {
    const known = this.#known.get(offset);
    if (known !== undefined) {
      return known;
    }
    const end = offset < this.#bytes.length ? this.#bytes.indexOf(0, offset) : -1;
    if (end < 0) {
      throw damaged(what, `the name at ${offset} of the string section has no end`);
    }
    const text = this.#bytes.toString('utf8', offset, end);
    this.#known.set(offset, text);
    return text;
  }
}

class TypeReader {
  readonly #cursor: Cursor;
  readonly #strings: Strings;
  #at = 0;

  constructor(cursor: Cursor, strings: Strings) {
    this.#cursor = cursor;
    this.#strings = strings;
  }

  readAll(): BtfType[] {
    const types: BtfType[] = [{ kind: 'void', name: '' }];
    while (this.#at < this.#cursor.length) {
      types.push(this.#readType());
    }
    return types;
  }

  #u32(): number {
    const value = this.#cursor.u32(this.#at);
    this.#at += 4;
    return value;
  }

  #i32(): number {
    return this.#u32() | 0;
  }

  #name(): string {
    return this.#strings.at(this.#u32());
  }

  #list<T>(count: number, read: () => T): T[] {
    const items: T[] = [];
    for (let index = 0; index < count; index++) {
      items.push(read());
    }
    return items;
  }

  #readType(): BtfType {
    const start = this.#at;
    const name = this.#name();
    const info = this.#u32();
    const kind = (info >>> 24) & 0x1f;
    const count = info & 0xffff;
    const kindFlag = info >>> 31 === 1;
    /** `size` or `type`, by kind. */
    const word = this.#u32();
    switch (kind) {
      case 1:
        return this.#readInt(name, word);
      case 2:
        return { kind: 'ptr', name, typeId: word };
      case 3:
        return {
          kind: 'array',
          name,
          elementTypeId: this.#u32(),
          indexTypeId: this.#u32(),
          length: this.#u32(),
        };
      case 4:
      case 5:
        return {
          kind: kind === 4 ? 'struct' : 'union',
          name,
          size: word,
          members: this.#list(count, () => {
            const member = { name: this.#name(), typeId: this.#u32() };
            const offset = this.#u32();
            return kindFlag
              ? { ...member, bitOffset: offset & 0xffffff, bitWidth: offset >>> 24 }
              : { ...member, bitOffset: offset, bitWidth: 0 };
          }),
        };
      case 6:
        return {
          kind: 'enum',
          name,
          size: word,
          signed: kindFlag,
          enumerators: this.#list(count, () => {
            const enumerator = this.#name();
            return { name: enumerator, value: BigInt(kindFlag ? this.#i32() : this.#u32()) };
          }),
        };
      case 7:
        return { kind: 'fwd', name, of: kindFlag ? 'union' : 'struct' };
      case 8:
        return { kind: 'typedef', name, typeId: word };
      case 9:
        return { kind: 'volatile', name, typeId: word };
      case 10:
        return { kind: 'const', name, typeId: word };
      case 11:
        return { kind: 'restrict', name, typeId: word };
      case 12:
        return { kind: 'func', name, typeId: word, linkage: count };
      case 13:
        return {
          kind: 'funcProto',
          name,
          returnTypeId: word,
          parameters: this.#list(count, () => ({ name: this.#name(), typeId: this.#u32() })),
        };
      case 14:
        return { kind: 'var', name, typeId: word, linkage: this.#u32() };
      case 15:
        return {
          kind: 'datasec',
          name,
          size: word,
          variables: this.#list(count, () => ({ typeId: this.#u32(), offset: this.#u32(), size: this.#u32() })),
        };
      case 16:
        return { kind: 'float', name, size: word };
      case 17:
        return { kind: 'declTag', name, typeId: word, componentIndex: this.#i32() };
      case 18:
        return { kind: 'typeTag', name, typeId: word };
      case 19:
        return {
          kind: 'enum64',
          name,
          size: word,
          signed: kindFlag,
          enumerators: this.#list(count, () => {
            const enumerator = this.#name();
            const bits = BigInt(this.#u32()) | (BigInt(this.#u32()) << 32n);
            return { name: enumerator, value: kindFlag ? BigInt.asIntN(64, bits) : bits };
          }),
        };
      default:
        throw damaged(what, `the type at byte ${start} of the type section is of the unknown kind ${kind}`);
    }
  }

  #readInt(name: string, size: number): BtfType {
    const data = this.#u32();
    const encoding = intEncodings[(data >>> 24) & 0xf];
    if (encoding === undefined) {
      throw damaged(what, `the integer ${name} has the unknown encoding ${(data >>> 24) & 0xf}`);
    }
    return { kind: 'int', name, size, encoding, bitOffset: (data >>> 16) & 0xff, bits: data & 0xff };
  }
}

function references(type: BtfType): number[] {
  switch (type.kind) {
    case 'ptr':
    case 'volatile':
    case 'const':
    case 'restrict':
    case 'typedef':
    case 'typeTag':
    case 'func':
    case 'var':
    case 'declTag':
      return [type.typeId];
    case 'array':
      return [type.elementTypeId, type.indexTypeId];
    case 'struct':
    case 'union':
      return type.members.map((member) => member.typeId);
    case 'funcProto':
      return [type.returnTypeId, ...type.parameters.map((parameter) => parameter.typeId)];
    case 'datasec':
      return type.variables.map((variable) => variable.typeId);
    default:
      return [];
  }
}
