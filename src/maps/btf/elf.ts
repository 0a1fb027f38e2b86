// SPDX-License-Identifier: Apache-2.0
/** As much of ELF64 as it takes to find a section or a symbol by name. Source: elf(5), <elf.h>. */
import { Cursor, damaged } from './cursor.ts';

const what = 'ELF object';
const headerSize = 64;
const sectionHeaderSize = 64;
const sectionTypeNoBits = 8;
const symbolSize = 24;

export interface ElfSection {
  name: string;
  /** Empty for a section that has no bytes in the file (.bss). */
  bytes: Uint8Array;
}

/** Lists the sections of an ELF64 object of either byte order. Throws `failed` on anything else. */
export function elfSections(bytes: Uint8Array): ElfSection[] {
  if (bytes.length < headerSize || bytes[0] !== 0x7f || bytes[1] !== 0x45 || bytes[2] !== 0x4c || bytes[3] !== 0x46) {
    throw damaged(what, 'it does not begin with an ELF header');
  }
  if (bytes[4] !== 2) {
    throw damaged(what, 'it is not of the 64-bit class');
  }
  if (bytes[5] !== 1 && bytes[5] !== 2) {
    throw damaged(what, `its byte order is ${bytes[5]}, neither little (1) nor big (2)`);
  }
  const cursor = new Cursor(bytes, bytes[5] === 1, what);
  const table = cursor.size(40);
  const entrySize = cursor.u16(58);
  const count = cursor.u16(60);
  const nameIndex = cursor.u16(62);
  if (count > 0 && entrySize < sectionHeaderSize) {
    throw damaged(what, `its section headers are ${entrySize} bytes long, not ${sectionHeaderSize}`);
  }
  const headers = Array.from({ length: count }, (_, index) => {
    const at = table + index * entrySize;
    const type = cursor.u32(at + 4);
    return {
      nameOffset: cursor.u32(at),
      bytes: cursor.slice(cursor.size(at + 24), type === sectionTypeNoBits ? 0 : cursor.size(at + 32)),
    };
  });
  const names = headers[nameIndex]?.bytes;
  if (names === undefined) {
    throw damaged(what, 'it has no section names');
  }
  return headers.map((header) => ({ name: nameAt(names, header.nameOffset), bytes: header.bytes }));
}

/** The bytes of one section (a view, not a copy), or undefined. */
export function elfSection(bytes: Uint8Array, name: string): Uint8Array | undefined {
  return elfSections(bytes).find((section) => section.name === name)?.bytes;
}

export interface ElfSymbol {
  name: string;
  /** Name of the section that it is defined in. */
  section: string;
  /** Bytes from the start of that section. */
  offset: number;
}

/** The symbols that are defined in a section; none in a file without a symbol table. */
export function elfSymbols(bytes: Uint8Array): ElfSymbol[] {
  const sections = elfSections(bytes);
  const table = sections.find((section) => section.name === '.symtab')?.bytes;
  const names = sections.find((section) => section.name === '.strtab')?.bytes;
  if (table === undefined || names === undefined) return [];
  const cursor = new Cursor(table, bytes[5] === 1, what);
  const symbols: ElfSymbol[] = [];
  for (let at = 0; at < table.length; at += symbolSize) {
    // An index above all sections is SHN_ABS, SHN_COMMON and the like.
    const section = sections[cursor.u16(at + 6)];
    if (section === undefined) continue;
    symbols.push({ name: nameAt(names, cursor.u32(at)), section: section.name, offset: cursor.size(at + 8) });
  }
  return symbols;
}

function nameAt(names: Uint8Array, offset: number): string {
  const end = names.indexOf(0, offset);
  if (end < 0) {
    throw damaged(what, `the name at ${offset} has no end`);
  }
  return Buffer.from(names.buffer, names.byteOffset + offset, end - offset).toString('utf8');
}
