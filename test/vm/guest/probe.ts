// SPDX-License-Identifier: Apache-2.0
/** The simplest programs, loaded beside the product: what a driver does is seen without it. */
import path from 'node:path';
import type { Fd } from '../../../src/loader/fd.ts';
import type { Native } from '../../../src/loader/ffi/index.ts';
import { attachXdp } from '../../../src/loader/link.ts';
import { BpfObject } from '../../../src/loader/object.ts';
import { ArrayMap, BpfMap, CpuMap, ProgArray, u32Codec, u64Codec } from '../../../src/maps/index.ts';

const objectFile = path.join(import.meta.dirname, '../../../build/test/vm_probe.bpf.o');

export type ProbeProgram =
  | 'probe_pass'
  | 'probe_pass_frags'
  | 'probe_root'
  | 'probe_redirect'
  | 'probe_cpu'
  | 'probe_egress';

export class Probe implements Disposable {
  readonly #native: Native;
  readonly #object: BpfObject;
  readonly #opened = new DisposableStack();
  readonly #queues: ArrayMap<bigint>;
  readonly #cpuFrames: ArrayMap<bigint>;
  readonly #chosen: ArrayMap<number>;
  readonly cpus: CpuMap;
  readonly slot: ProgArray;

  constructor(native: Native) {
    this.#native = native;
    this.#object = this.#opened.use(BpfObject.load(native, objectFile));
    this.#queues = new ArrayMap(native, this.#map('probe_queues'), u64Codec);
    this.#cpuFrames = new ArrayMap(native, this.#map('probe_cpu_frames'), u64Codec);
    this.#chosen = new ArrayMap(native, this.#map('probe_chosen'), u32Codec);
    this.cpus = new CpuMap(native, this.#map('probe_cpus'));
    this.slot = new ProgArray(native, this.#map('probe_slot'));
  }

  #map(name: string): BpfMap {
    return this.#opened.use(BpfMap.fromFd(this.#native, this.#object.mapFd(name)));
  }

  program(name: ProbeProgram): Fd {
    return this.#opened.use(this.#object.programFd(name));
  }

  /** Native mode; the program stays until the descriptor is closed. Throws `kernel_refused` with `details.errno`. */
  attach(name: ProbeProgram, ifindex: number): Fd {
    return attachXdp(this.#native, this.program(name), ifindex, 'native');
  }

  /** Frames that XDP has met since the last call, by RX queue, without zeros. */
  takeQueues(): Map<number, number> {
    return take(this.#queues);
  }

  /** Frames that probe_cpu has met since the last call, by CPU. */
  takeCpus(): Map<number, number> {
    return take(this.#cpuFrames);
  }

  redirectTo(cpu: number): void {
    this.#chosen.set(0, cpu);
  }

  /** @param mapping as the program writes it: 0 is none @param mark 0: left alone */
  chooseTx(mapping: number, mark = 0): void {
    this.#chosen.set(1, mapping);
    this.#chosen.set(2, mark);
  }

  [Symbol.dispose](): void {
    this.#opened.dispose();
  }
}

function take(counts: ArrayMap<bigint>): Map<number, number> {
  const found = new Map<number, number>();
  for (let index = 0; index < counts.length; index++) {
    const count = counts.get(index);
    if (count === 0n) continue;
    found.set(index, Number(count));
    counts.set(index, 0n);
  }
  return found;
}

export const total = (counts: ReadonlyMap<number, number>): number =>
  [...counts.values()].reduce((sum, count) => sum + count, 0);
