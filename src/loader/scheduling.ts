// SPDX-License-Identifier: Apache-2.0
/**
 * How soon a thread that has slept runs again on a busy CPU (sched(7), Documentation/scheduler/sched-eevdf.rst): the turn
 * that is to end first begins first, and weight and a short slice end a turn soon.
 */
import { SchedAttr } from '../maps/generated/host.ts';
import type { Native } from './ffi/index.ts';
import { syscallNumber } from './syscall.ts';

export interface Urgency {
  /** Of nice(2): -20 to 19. */
  nice: number;
  /** How long a turn is, 100,000 to 100,000,000 ns. Kernels before 6.12 do not ask. */
  sliceNs: number;
}

const SCHED_OTHER = 0;

/** Of the calling thread alone. Throws `not_permitted` without CAP_SYS_NICE, `kernel_refused`. */
export function setUrgency(native: Native, { nice, sliceNs }: Urgency): void {
  const number = syscallNumber('sched_setattr');
  const attr = SchedAttr.encode({ size: SchedAttr.size, policy: SCHED_OTHER, nice, runtimeNs: BigInt(sliceNs) });
  const address = native.memory.addressOf(attr);
  native.check(native.libc.syscall(number, null, address, 0, 0, 0n), 'syscall', 'sched_setattr');
}
