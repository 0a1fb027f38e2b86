// SPDX-License-Identifier: Apache-2.0
/** Numbers of the system calls that libc has no function for. */
import { VnicError } from '../errors.ts';

/** arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h */
const numbers = {
  perf_event_open: { x64: 298, arm64: 241 },
  sched_setattr: { x64: 314, arm64: 274 },
} as const satisfies Record<string, Partial<Record<NodeJS.Architecture, number>>>;

/** Throws `kernel_refused` with `details.errno` ENOSYS on a machine whose numbers are not known. */
export function syscallNumber(name: keyof typeof numbers): bigint {
  const ofMachines: Partial<Record<NodeJS.Architecture, number>> = numbers[name];
  const number = ofMachines[process.arch];
  if (number !== undefined) return BigInt(number);
  throw new VnicError('kernel_refused', `${name} is not known on ${process.arch}.`, { details: { errno: 'ENOSYS' } });
}
