// SPDX-License-Identifier: Apache-2.0
/** Loaded programs: what the kernel says of them, and running them on a packet (BPF_PROG_RUN). */
import { BpfProgInfo, BpfTestRunOpts } from '../maps/generated/host.ts';
import { Fd } from './fd.ts';
import type { Native } from './ffi/index.ts';

const INFO_BYTES = 512;

export interface ProgramInfo {
  id: number;
  name: string;
  /** Hex, 16 digits. */
  tag: string;
}

/** Fills an info buffer for any BPF descriptor (bpf_obj_get_info_by_fd). */
export function objectInfo(native: Native, fd: Fd, bytes = INFO_BYTES): Uint8Array {
  const info = native.memory.alloc(bytes);
  const size = new Uint32Array([bytes]);
  native.check(
    native.libbpf.bpf_obj_get_info_by_fd(fd.value, info, new Uint8Array(size.buffer)),
    'bpf_obj_get_info_by_fd',
  );
  return info;
}

export function programInfo(native: Native, fd: Fd): ProgramInfo {
  const info = BpfProgInfo.decode(objectInfo(native, fd));
  return { id: info.id, name: info.name, tag: Buffer.from(info.tag).toString('hex') };
}

/** A program by its id, or null if it is gone. */
export function programById(native: Native, id: number): Fd | null {
  const fd = native.libbpf.bpf_prog_get_fd_by_id(id);
  return fd < 0 ? null : new Fd(native, fd);
}

export interface RunResult {
  /** What the program returned: `enum xdp_action`, a TC_ACT_ code… */
  returnValue: number;
  /** Mean time of one run in ns, as the kernel measured it. */
  durationNs: number;
}

/**
 * Runs a program of type BPF_PROG_TYPE_SYSCALL once, without a context, and gives what it returned.
 * Source: kernel/bpf/syscall.c, bpf_prog_test_run_syscall
 */
export function runSyscallProgram(native: Native, fd: Fd): number {
  const opts = BpfTestRunOpts.encode({});
  native.check(native.libbpf.bpf_prog_test_run_opts(fd.value, opts), 'bpf_prog_test_run_opts');
  return BpfTestRunOpts.decode(opts).retval | 0;
}

/**
 * Runs one program on packets. Buffers are allocated once: one instance serves any number of runs.
 * Source: Documentation/bpf/bpf_prog_run.rst
 */
export class ProgramRunner {
  readonly #native: Native;
  readonly #fd: Fd;
  readonly #opts: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #input: Uint8Array<ArrayBuffer>;
  readonly #output: Uint8Array<ArrayBuffer> | undefined;

  /** @param maxInputBytes largest packet; `outputBytes` makes `output` hold what the program left of the packet */
  constructor(native: Native, fd: Fd, options: { maxInputBytes: number; outputBytes?: number }) {
    this.#native = native;
    this.#fd = fd;
    this.#input = native.memory.alloc(options.maxInputBytes);
    this.#output = options.outputBytes === undefined ? undefined : native.memory.alloc(options.outputBytes);
    this.#opts = BpfTestRunOpts.encode({ dataIn: native.memory.addressOf(this.#input) });
    this.#view = new DataView(this.#opts.buffer);
  }

  /** The largest packet that can be given. */
  get maxInputBytes(): number {
    return this.#input.length;
  }

  get output(): Uint8Array {
    return this.#output ?? new Uint8Array();
  }

  /** Throws `kernel_refused` with the errno: EINVAL for fewer than 14 bytes, ENOSPC for an output that does not fit. */
  run(packet: Uint8Array, repeat = 1): RunResult {
    this.#input.set(packet);
    const { memory, libbpf } = this.#native;
    BpfTestRunOpts.write(this.#view, 0, {
      dataIn: memory.addressOf(this.#input),
      dataSizeIn: packet.length,
      repeat,
      ...(this.#output === undefined
        ? {}
        : { dataOut: memory.addressOf(this.#output), dataSizeOut: this.#output.length }),
    });
    this.#native.check(libbpf.bpf_prog_test_run_opts(this.#fd.value, this.#opts), 'bpf_prog_test_run_opts');
    const result = BpfTestRunOpts.read(this.#view, 0);
    return { returnValue: result.retval, durationNs: result.duration };
  }
}
