// SPDX-License-Identifier: Apache-2.0
/**
 * A child that runs a pinned XDP program on one frame, flat out on one CPU, in one call: BPF_PROG_RUN with a repeat count
 * changes the kernel's XDP dispatcher before and after, which takes longer than thousands of packets. It says "ready"
 * before it begins, and ends by the count or by a signal.
 */
import { constants, setPriority } from 'node:os';
import { Fd } from '../../src/loader/fd.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { ProgramRunner } from '../../src/loader/program.ts';
import { runOnCpus } from './run-on-cpus.ts';

export interface LoadPlan {
  program: string;
  cpu: number;
  frame: Uint8Array;
  repeat: number;
}

const native = loadNative();

process.once('message', ({ program, cpu, frame, repeat }: LoadPlan) => {
  // Others on the machine must not take the CPU away for so long that credit is lost.
  setPriority(constants.priority.PRIORITY_HIGHEST);
  runOnCpus({ native, cpus: [cpu] });
  // Open until the process ends: the run begins after this function has returned.
  const fd = new Fd(native, native.check(native.libbpf.bpf_obj_get(program), 'bpf_obj_get'));
  const runner = new ProgramRunner(native, fd, { maxInputBytes: 2048 });
  process.send?.('ready', () => runner.run(frame, repeat));
});
