// SPDX-License-Identifier: Apache-2.0
/** PERCPU_ARRAY maps: one value for each possible CPU, each rounded up to 8 bytes in what the kernel copies. */
import { VnicError } from '../errors.ts';
import type { Native } from '../loader/ffi/index.ts';
import type { Codec, Inputs } from './codec.ts';
import { BpfMapType } from './generated/host.ts';
import type { BpfMap } from './map.ts';
import { checkIndex, checkMap, expectShape } from './map-errors.ts';
import { u32Codec } from './scalars.ts';

/** Typed access to a map that someone else owns and closes. */
export class PerCpuArray<V> {
  readonly map: BpfMap;
  readonly #native: Native;
  /** Possible CPUs, whether online or not: the number of values of each element. */
  readonly cpus: number;
  readonly #value: Codec<V>;
  readonly #stride: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /** Throws `abi_mismatch` when the map is of another type or its values have another size. */
  constructor(native: Native, map: BpfMap, value: Codec<V>) {
    expectShape(map, { types: [BpfMapType.percpuArray], keySize: u32Codec.size, valueSize: value.size });
    this.map = map;
    this.#native = native;
    this.cpus = native.check(native.libbpf.libbpf_num_possible_cpus(), 'libbpf_num_possible_cpus');
    this.#value = value;
    this.#stride = Math.ceil(value.size / 8) * 8;
    this.#bytes = native.memory.alloc(this.#stride * this.cpus);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.map.maxEntries;
  }

  /** The element's value on each possible CPU. Throws `capacity_exceeded` for an index that the array does not have. */
  get(index: number): V[] {
    const { fd } = this.map;
    checkIndex(this.map, index);
    const result = this.#native.libbpf.bpf_map_lookup_elem(fd.value, u32Codec.encode(index), this.#bytes);
    checkMap(this.#native, this.map, result, 'bpf_map_lookup_elem');
    return Array.from({ length: this.cpus }, (_, cpu) => this.#value.read(this.#view, cpu * this.#stride));
  }

  /** Takes a value for each possible CPU. Throws `capacity_exceeded` for an index that the array does not have. */
  set(index: number, values: readonly Inputs<V>[]): void {
    const { fd } = this.map;
    checkIndex(this.map, index);
    if (values.length !== this.cpus) {
      throw new VnicError(
        'failed',
        `Map ${this.map.name} needs a value for each of ${this.cpus} CPUs, ${values.length} were given.`,
      );
    }
    this.#bytes.fill(0);
    for (const [cpu, value] of values.entries()) this.#value.write(this.#view, cpu * this.#stride, value);
    const result = this.#native.libbpf.bpf_map_update_elem(fd.value, u32Codec.encode(index), this.#bytes, 0n);
    checkMap(this.#native, this.map, result, 'bpf_map_update_elem');
  }
}
