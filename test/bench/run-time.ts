// SPDX-License-Identifier: Apache-2.0
/**
 * How long a program takes for a packet. The kernel's own answer (BPF_PROG_RUN) is in whole nanoseconds, which are a
 * fifth of what a bare XDP_PASS takes; here it is the CPU time of the whole run, with nothing else in it. For that the program is
 * attached to a loopback device where nothing is sent: else the kernel puts it into its XDP dispatcher for each run, and
 * that takes as long as millions of packets (kernel/bpf/dispatcher.c).
 */
import type { Fd } from '../../src/loader/fd.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { attachXdp } from '../../src/loader/link.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { ProgramRunner } from '../../src/loader/program.ts';
import { hostLittleEndian } from '../../src/maps/codec.ts';
import { namespaceName } from '../rig/addresses.ts';
import { removeNamespace, run, sweepStaleNamespaces } from '../rig/namespaces.ts';

/** The loopback device is the first of every namespace. */
const LOOPBACK_IFINDEX = 1;

const CLOCK_THREAD_CPUTIME_ID = 3;

/**
 * CPU time of this thread: what runs in between on a busy machine is not in it. By this clock, because getrusage() is as
 * exact as the kernel's tick, which is 4 ns of a packet when a million take 4 ms.
 */
function threadClock(native: Native): () => number {
  const time = native.memory.alloc(16);
  const view = new DataView(time.buffer);
  return () => {
    native.check(native.libc.clock_gettime(CLOCK_THREAD_CPUTIME_ID, time), 'clock_gettime');
    return Number(view.getBigInt64(0, hostLittleEndian)) * 1e9 + Number(view.getBigInt64(8, hostLittleEndian));
  };
}

export class Stopwatch implements Disposable {
  readonly #native: Native;
  readonly #netns: string;

  constructor(native: Native) {
    this.#native = native;
    this.#netns = namespaceName(process.pid, 'bench', 'seat');
    sweepStaleNamespaces();
    run('ip', ['netns', 'add', this.#netns]);
  }

  /** A function that gives the mean time of a packet in nanoseconds. @param seat what is attached meanwhile, if not `program` */
  timer(program: Fd, frame: Uint8Array, repeat: number, seat = program): () => number {
    const clockNs = threadClock(this.#native);
    const runner = new ProgramRunner(this.#native, program, { maxInputBytes: 2048 });
    return () => {
      const attached = inNetns(this.#native, this.#netns, () =>
        attachXdp(this.#native, seat, LOOPBACK_IFINDEX, 'generic'),
      );
      try {
        runner.run(frame, 1000);
        const startNs = clockNs();
        runner.run(frame, repeat);
        return (clockNs() - startNs) / repeat;
      } finally {
        attached.close();
      }
    };
  }

  [Symbol.dispose](): void {
    removeNamespace(this.#netns);
  }
}
