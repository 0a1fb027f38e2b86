// SPDX-License-Identifier: Apache-2.0
/**
 * Finds the loops that the verifier refuses before Linux 6.7: those whose jump back is none, because the compiler put the
 * end of the body right before its beginning and let it fall through. Source: check_cfg, visit_insn and push_insn in
 * kernel/bpf/verifier.c of Linux 6.1; lifted by commit 10e14e9652bf.
 */
import { elfSections } from '../../src/maps/btf/elf.ts';

/** linux/bpf.h, linux/bpf_common.h */
const INSTRUCTION_BYTES = 8;
const CLASS_MASK = 0x07;
const CLASS_JMP = 0x05;
const CLASS_JMP32 = 0x06;
const OPERATION_MASK = 0xf0;
const OPERATION_JA = 0x00;
const OPERATION_CALL = 0x80;
const OPERATION_EXIT = 0x90;

/** elf(5) */
const SYMBOL_BYTES = 24;
const TYPE_FUNCTION = 2;

export interface BackEdge {
  readonly function: string;
  /** Index of the instruction in the function. */
  readonly from: number;
}

interface BpfFunction {
  readonly name: string;
  readonly code: DataView;
}

function functionsOf(object: Uint8Array): BpfFunction[] {
  const sections = elfSections(object);
  const bytesOf = (name: string) => sections.find((section) => section.name === name)?.bytes ?? new Uint8Array();
  const [symbols, names] = [bytesOf('.symtab'), bytesOf('.strtab')];
  const table = new DataView(symbols.buffer, symbols.byteOffset, symbols.byteLength);
  const functions: BpfFunction[] = [];
  for (let at = 0; at < symbols.length; at += SYMBOL_BYTES) {
    if ((table.getUint8(at + 4) & 0xf) !== TYPE_FUNCTION) continue;
    const section = sections[table.getUint16(at + 6, true)]!;
    const start = table.getUint32(at, true);
    const name = Buffer.from(names.subarray(start, names.indexOf(0, start))).toString();
    const offset = section.bytes.byteOffset + Number(table.getBigUint64(at + 8, true));
    functions.push({
      name,
      code: new DataView(section.bytes.buffer, offset, Number(table.getBigUint64(at + 16, true))),
    });
  }
  return functions;
}

interface Edge {
  readonly to: number;
  readonly isJump: boolean;
}

/** In the order in which the verifier follows them. */
function edgesOf(code: DataView, index: number): Edge[] {
  const at = index * INSTRUCTION_BYTES;
  const opcode = code.getUint8(at);
  const next = { to: index + 1, isJump: false };
  if ((opcode & CLASS_MASK) !== CLASS_JMP && (opcode & CLASS_MASK) !== CLASS_JMP32) return [next];
  const target = index + 1 + code.getInt16(at + 2, true);
  switch (opcode & OPERATION_MASK) {
    case OPERATION_EXIT:
      return [];
    case OPERATION_CALL:
      return [next];
    case OPERATION_JA:
      return [{ to: target, isJump: true }];
    default:
      return [
        { to: index + 1, isJump: true },
        { to: target, isJump: true },
      ];
  }
}

function backEdgesOf({ name, code }: BpfFunction): BackEdge[] {
  const found: BackEdge[] = [];
  const state = new Map<number, 'open' | 'done'>();
  const stack: { index: number; edges: Edge[] }[] = [];
  const visit = (index: number): void => {
    state.set(index, 'open');
    stack.push({ index, edges: edgesOf(code, index) });
  };
  visit(0);
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const edge = top.edges.shift();
    if (edge === undefined) {
      state.set(top.index, 'done');
      stack.pop();
    } else if (!state.has(edge.to)) {
      visit(edge.to);
    } else if (state.get(edge.to) === 'open' && !edge.isJump) {
      found.push({ function: name, from: top.index });
    }
  }
  return found;
}

/** Of all functions of a little-endian BPF object. */
export function findBackEdges(object: Uint8Array): BackEdge[] {
  return functionsOf(object).flatMap(backEdgesOf);
}
