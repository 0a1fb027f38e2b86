// SPDX-License-Identifier: Apache-2.0
/** How often the kernel ran each program and for how long. One system call a program, and only while it counts. */
import { readFileSync } from 'node:fs';
import type { Fd } from '../../loader/fd.ts';
import { objectInfo } from '../../loader/program.ts';
import { BpfProgInfo } from '../../maps/generated/host.ts';
import { type Part, unavailable } from './part.ts';

export interface ProgramRuns {
  program: string;
  runs: bigint;
  runTimeNs: bigint;
}

type Native = Parameters<typeof objectInfo>[0];

const STATS_SWITCH = '/proc/sys/kernel/bpf_stats_enabled';

/** Whether the administrator has the kernel count runs (kernel/bpf/syscall.c, bpf_stats_handler). */
export function kernelCountsRuns(): boolean {
  return readFileSync(STATS_SWITCH, 'utf8').trim() !== '0';
}

/** @param counts whether runs are counted now: `kernelCountsRuns()`, or the caller holds a descriptor of BPF_ENABLE_STATS */
export function readProgramRuns(
  native: Native,
  programs: Iterable<readonly [name: string, fd: Fd]>,
  counts: boolean = kernelCountsRuns(),
): Part<ProgramRuns[]> {
  if (!counts) {
    return unavailable(
      'the kernel does not count runs of BPF programs, which costs time on each packet: sysctl kernel.bpf_stats_enabled=1',
    );
  }
  return Array.from(programs, ([program, fd]) => {
    const { runCnt, runTimeNs } = BpfProgInfo.decode(objectInfo(native, fd));
    return { program, runs: runCnt, runTimeNs };
  });
}
