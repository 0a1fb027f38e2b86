// SPDX-License-Identifier: Apache-2.0
/** PROG_ARRAY maps: the targets of tail calls. */
import { VnicError } from '../errors.ts';
import type { Fd } from '../loader/fd.ts';
import type { Native } from '../loader/ffi/index.ts';
import { BpfMapType } from './generated/host.ts';
import type { BpfMap } from './map.ts';
import { checkIndex, checkMap, EINVAL, ENOENT, expectShape } from './map-errors.ts';
import { u32Codec } from './scalars.ts';

/**
 * Typed access to a map that someone else owns and closes. The kernel empties a program array when its last pin and
 * descriptor are gone, although programs still use it (kernel/bpf/arraymap.c, map_release_uref): keep it pinned.
 */
export class ProgArray {
  readonly map: BpfMap;
  readonly #native: Native;

  /** Throws `abi_mismatch` when the map is no program array. */
  constructor(native: Native, map: BpfMap) {
    expectShape(map, { types: [BpfMapType.progArray], keySize: u32Codec.size, valueSize: u32Codec.size });
    this.map = map;
    this.#native = native;
  }

  /** Puts a program into a slot at once, in place of what is there. */
  set(slot: number, program: Fd | number): void {
    const { fd, name } = this.map;
    checkIndex(this.map, slot);
    const value = u32Codec.encode(typeof program === 'number' ? program : program.value);
    const result = this.#native.libbpf.bpf_map_update_elem(fd.value, u32Codec.encode(slot), value, 0n);
    if (result === -EINVAL) {
      throw new VnicError('kernel_refused', `The program cannot stand in slot ${slot} of program array ${name}.`, {
        remedy: 'Load it with the type, frags support and attach type of the programs that use the array.',
        details: { map: name, slot, errno: 'EINVAL', errnoNumber: EINVAL, call: 'bpf_map_update_elem' },
      });
    }
    checkMap(this.#native, this.map, result, 'bpf_map_update_elem');
  }

  /** Id of the program in the slot; undefined when it is empty. */
  get(slot: number): number | undefined {
    const { fd } = this.map;
    checkIndex(this.map, slot);
    const value = this.#native.memory.alloc(u32Codec.size);
    const result = this.#native.libbpf.bpf_map_lookup_elem(fd.value, u32Codec.encode(slot), value);
    if (result === -ENOENT) return undefined;
    checkMap(this.#native, this.map, result, 'bpf_map_lookup_elem');
    return u32Codec.decode(value);
  }

  /** Empties a slot; false when it was empty. */
  delete(slot: number): boolean {
    const { fd } = this.map;
    checkIndex(this.map, slot);
    const result = this.#native.libbpf.bpf_map_delete_elem(fd.value, u32Codec.encode(slot));
    if (result === -ENOENT) return false;
    checkMap(this.#native, this.map, result, 'bpf_map_delete_elem');
    return true;
  }
}
