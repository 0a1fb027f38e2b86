// SPDX-License-Identifier: Apache-2.0
/** Whether two loaded programs do the same: the same instructions on the same maps with the same constants. */
import { createHash } from 'node:crypto';
import type { Fd } from '../loader/fd.ts';
import type { Native } from '../loader/ffi/index.ts';
import { objectInfo } from '../loader/program.ts';
import { hostLittleEndian } from '../maps/codec.ts';
import { BpfProgInfo, MapFlag } from '../maps/generated/host.ts';
import { BpfMap } from '../maps/index.ts';

/** include/uapi/linux/bpf.h */
const BPF_LD_IMM64 = 0x18;
const BPF_PSEUDO_MAP_VALUE = 2;
const INSTRUCTION_BYTES = 8;
/** High half of a kernel address. The verifier puts the program's own into a call that sets a timer's callback. */
const KERNEL_ADDRESS_HIGH = 0xffff_0000;

/**
 * Equal for programs that do the same; null where the kernel does not show the instructions (blinded constants).
 * The kernel's tag is not enough: it leaves out which maps and which constants the instructions refer to
 * (kernel/bpf/core.c, bpf_prog_calc_tag). The instructions come with ids of maps; a map of constants is new with each
 * load, so its contents stand for its id, for programs that refer to it.
 */
export function programIdentity(native: Native, program: Fd): string | null {
  const instructions = translatedInstructions(native, program);
  if (instructions === null) return null;
  const view = new DataView(instructions.buffer);
  const constants = new Map<number, Uint8Array | null>();
  for (let at = 0; at < instructions.length; at += INSTRUCTION_BYTES) {
    // The second byte holds two registers; the source stands in the high half on little-endian machines.
    const registers = instructions[at + 1] ?? 0;
    const source = hostLittleEndian ? registers >> 4 : registers & 0xf;
    if (instructions[at] !== BPF_LD_IMM64) continue;
    if (source === 0 && view.getUint32(at + 12, hostLittleEndian) >= KERNEL_ADDRESS_HIGH) {
      view.setUint32(at + 4, 0, hostLittleEndian);
      view.setUint32(at + 12, 0, hostLittleEndian);
    }
    if (source !== BPF_PSEUDO_MAP_VALUE) continue;
    const id = view.getUint32(at + 4, hostLittleEndian);
    if (!constants.has(id)) constants.set(id, constantsOf(native, id));
    if (constants.get(id) !== null) view.setUint32(at + 4, 0, hostLittleEndian);
  }
  const hash = createHash('sha256').update(instructions);
  for (const bytes of constants.values()) if (bytes !== null) hash.update(bytes);
  return hash.digest('hex');
}

/** Ids of the maps that a program refers to. */
export function mapIdsOf(native: Native, program: Fd): number[] {
  const count = BpfProgInfo.decode(objectInfo(native, program)).nrMapIds;
  const ids = native.memory.alloc(4 * count);
  queryInfo(native, program, { nrMapIds: count, mapIds: native.memory.addressOf(ids) });
  return [...new Uint32Array(ids.buffer)];
}

function queryInfo(native: Native, program: Fd, asked: Partial<BpfProgInfo>): BpfProgInfo {
  const info = BpfProgInfo.encode(asked);
  const size = new Uint8Array(Uint32Array.of(info.length).buffer);
  native.check(native.libbpf.bpf_obj_get_info_by_fd(program.value, info, size), 'bpf_obj_get_info_by_fd');
  return BpfProgInfo.decode(info);
}

/** As the verifier left them: without branches that constants rule out. */
function translatedInstructions(native: Native, program: Fd): Uint8Array<ArrayBuffer> | null {
  const length = BpfProgInfo.decode(objectInfo(native, program)).xlatedProgLen;
  const instructions = native.memory.alloc(length);
  const { xlatedProgInsns } = queryInfo(native, program, {
    xlatedProgLen: length,
    xlatedProgInsns: native.memory.addressOf(instructions),
  });
  return length === 0 || xlatedProgInsns === 0n ? null : instructions;
}

/** The bytes of a map of constants, which is an array of one; null for one of variables. */
function constantsOf(native: Native, mapId: number): Uint8Array | null {
  using map = BpfMap.fromId(native, mapId);
  if ((map.flags & MapFlag.rdonlyProg) === 0) return null;
  const value = native.memory.alloc(map.valueSize);
  native.check(
    native.libbpf.bpf_map_lookup_elem(map.fd.value, native.memory.alloc(map.keySize), value),
    'bpf_map_lookup_elem',
    map.name,
  );
  return value;
}
