// SPDX-License-Identifier: Apache-2.0
/** Counters of the kernel's perf events (perf_event_open(2)), of everything that runs on one CPU. */
import { readSync } from 'node:fs';
import { Perf, PerfEventAttr } from '../maps/generated/host.ts';
import { Fd } from './fd.ts';
import type { Native } from './ffi/index.ts';
import { syscallNumber } from './syscall.ts';

const EVERY_PROCESS = -1n;
const NO_GROUP = -1;

export interface PerfEventType {
  /** `enum perf_type_id` */
  type: number;
  config: number;
}

/** What a read gives: the time is that for which the event was asked for, and that for which it was counted. */
export interface PerfReading {
  value: bigint;
  enabledNs: bigint;
  runningNs: bigint;
}

/**
 * Starts to count. It goes on until the descriptor is closed.
 * Throws `kernel_refused` or `not_permitted` with `details.errno`: ENOENT (the machine has no such event), ENODEV (the
 * CPU is offline), EOPNOTSUPP, EACCES (kernel.perf_event_paranoid).
 */
export function openPerfEvent(native: Native, { type, config }: PerfEventType, cpu: number): Fd {
  const number = syscallNumber('perf_event_open');
  const attr = PerfEventAttr.encode({
    type,
    size: PerfEventAttr.size,
    config: BigInt(config),
    readFormat: BigInt(Perf.formatTimeEnabled | Perf.formatTimeRunning),
  });
  const flags = BigInt(Perf.flagFdCloexec);
  const fd = native.libc.syscall(number, attr, EVERY_PROCESS, cpu, NO_GROUP, flags);
  return new Fd(native, native.check(fd, 'syscall', `perf_event_open on CPU ${cpu}`));
}

/** Three u64: value, time enabled, time running (include/uapi/linux/perf_event.h, enum perf_event_read_format). */
const reading = new BigUint64Array(3);

/** Null: the event is in an error state, for example because its CPU went offline. */
export function readPerfEvent(event: Fd): PerfReading | null {
  if (readSync(event.value, reading) < reading.byteLength) return null;
  const [value = 0n, enabledNs = 0n, runningNs = 0n] = reading;
  return { value, enabledNs, runningNs };
}
