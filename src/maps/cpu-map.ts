// SPDX-License-Identifier: Apache-2.0
/** CPUMAP maps: the CPUs that packets can be redirected to. Source: Linux kernel/bpf/cpumap.c. */
import { VnicError } from '../errors.ts';
import type { Fd } from '../loader/fd.ts';
import { errnoName, type Native } from '../loader/ffi/index.ts';
import { BpfCpumapVal, BpfMapType } from './generated/host.ts';
import type { BpfMap } from './map.ts';
import { checkIndex, checkMap, EINVAL, ENODEV, ENOENT, ENOMEM, expectShape } from './map-errors.ts';
import { u32Codec } from './scalars.ts';

/** Packets; the kernel refuses more. */
export const maxCpuQueuePackets = 16384;

export interface CpuMapEntry {
  /** Packets that wait at most. */
  readonly qsize: number;
  /** Id of the program that runs on the target CPU; undefined: none. */
  readonly progId: number | undefined;
}

/** Typed access to a map that someone else owns and closes. */
export class CpuMap {
  readonly map: BpfMap;
  readonly #native: Native;

  /** Throws `abi_mismatch` when the map is no CPUMAP or its values hold no program. */
  constructor(native: Native, map: BpfMap) {
    expectShape(map, { types: [BpfMapType.cpumap], keySize: u32Codec.size, valueSize: BpfCpumapVal.size });
    this.map = map;
    this.#native = native;
  }

  /**
   * Makes the entry of a CPU, with a kernel thread of its own. An entry that is there is replaced together with its
   * ring and thread, so do not do it to one that packets use. Throws `not_found` for a CPU that does not exist.
   */
  set(cpu: number, entry: { qsize: number; progFd?: Fd | number | undefined }): void {
    const { fd, name } = this.map;
    checkIndex(this.map, cpu);
    // A size of 0 would delete the entry.
    if (!Number.isInteger(entry.qsize) || entry.qsize < 1 || entry.qsize > maxCpuQueuePackets) {
      throw new VnicError('failed', `The queue of CPU ${cpu} cannot hold ${entry.qsize} packets.`, {
        remedy: `Give a size from 1 to ${maxCpuQueuePackets}.`,
        details: { map: name, cpu, qsize: entry.qsize },
      });
    }
    const progFd = typeof entry.progFd === 'object' ? entry.progFd.value : entry.progFd;
    const value = BpfCpumapVal.encode({ qsize: entry.qsize, bpfProgFd: progFd });
    const result = this.#native.libbpf.bpf_map_update_elem(fd.value, u32Codec.encode(cpu), value, 0n);
    const details = { map: name, cpu, errnoNumber: -result, call: 'bpf_map_update_elem' };
    if (result === -ENODEV) {
      throw new VnicError('not_found', `CPU ${cpu} does not exist on this machine.`, {
        remedy: 'Name a CPU of /sys/devices/system/cpu/possible.',
        details: { ...details, errno: 'ENODEV' },
      });
    }
    // ENOMEM is also the answer to a program that does not fit (__cpu_map_entry_alloc).
    if ((result === -ENOMEM || result === -EINVAL) && progFd !== undefined) {
      throw new VnicError(
        'kernel_refused',
        `The entry of CPU ${cpu} of map ${name} cannot be made with this program.`,
        {
          remedy:
            'Load it as an XDP program with attach type BPF_XDP_CPUMAP and the frags support of the first one; or free memory.',
          details: { ...details, errno: errnoName(-result) },
        },
      );
    }
    checkMap(this.#native, this.map, result, 'bpf_map_update_elem');
  }

  /** undefined when the CPU has no entry. */
  get(cpu: number): CpuMapEntry | undefined {
    const { fd } = this.map;
    checkIndex(this.map, cpu);
    const value = this.#native.memory.alloc(BpfCpumapVal.size);
    const result = this.#native.libbpf.bpf_map_lookup_elem(fd.value, u32Codec.encode(cpu), value);
    if (result === -ENOENT) return undefined;
    checkMap(this.#native, this.map, result, 'bpf_map_lookup_elem');
    const { qsize, bpfProgId } = BpfCpumapVal.decode(value);
    return { qsize, progId: bpfProgId === 0 ? undefined : bpfProgId };
  }

  /** Removes the entry of a CPU; false when it had none. Packets in its ring are still delivered. */
  delete(cpu: number): boolean {
    const { fd } = this.map;
    // The kernel reports success whether or not there was an entry.
    if (this.get(cpu) === undefined) return false;
    const result = this.#native.libbpf.bpf_map_delete_elem(fd.value, u32Codec.encode(cpu));
    checkMap(this.#native, this.map, result, 'bpf_map_delete_elem');
    return true;
  }
}
