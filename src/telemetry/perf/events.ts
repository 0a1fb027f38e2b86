// SPDX-License-Identifier: Apache-2.0
/** Which perf events are counted, and in words why one is not. Pure. */
import { Perf } from '../../maps/generated/host.ts';

export interface PerfEvent {
  /** As metrics and reports write it. */
  name: PerfEventName;
  kind: 'hardware' | 'software';
  /** `enum perf_type_id` and its event. */
  type: number;
  config: number;
}

export const perfEventNames = [
  'cycles',
  'instructions',
  'cache_references',
  'cache_misses',
  'context_switches',
  'cpu_migrations',
] as const;
export type PerfEventName = (typeof perfEventNames)[number];

const hardware = (name: PerfEventName, config: number): PerfEvent => ({
  name,
  kind: 'hardware',
  type: Perf.typeHardware,
  config,
});
const software = (name: PerfEventName, config: number): PerfEvent => ({
  name,
  kind: 'software',
  type: Perf.typeSoftware,
  config,
});

export const perfEvents: readonly PerfEvent[] = [
  hardware('cycles', Perf.hwCycles),
  hardware('instructions', Perf.hwInstructions),
  hardware('cache_references', Perf.hwCacheReferences),
  hardware('cache_misses', Perf.hwCacheMisses),
  software('context_switches', Perf.swContextSwitches),
  software('cpu_migrations', Perf.swCpuMigrations),
];

/**
 * Why perf_event_open(2) refused an event.
 * @param paranoid kernel.perf_event_paranoid; null where it cannot be read
 */
export function refusalReason({ kind }: PerfEvent, errno: string, paranoid: number | null): string {
  switch (errno) {
    case 'ENOENT':
    case 'EOPNOTSUPP':
    case 'ENXIO':
      return kind === 'hardware'
        ? `the machine has no such hardware counter (${errno}), as is usual in virtual machines`
        : `the kernel has no such event (${errno})`;
    case 'EACCES':
    case 'EPERM':
      return `this process may not count it (${errno}): it needs CAP_PERFMON${
        paranoid === null ? '' : `, as kernel.perf_event_paranoid is ${paranoid}`
      }`;
    case 'ENOSYS':
      return 'the kernel was built without perf events (ENOSYS)';
    case 'EMFILE':
    case 'ENFILE':
      return `too many files are open (${errno}): each event takes one for each CPU`;
    case 'EBUSY':
      return 'somebody else has the hardware counters for themselves (EBUSY)';
    case 'ENODEV':
      return 'the CPU is not online (ENODEV)';
    default:
      return `the kernel refuses it (${errno})`;
  }
}

/** An event that the kernel took, and never counted. */
export const NEVER_COUNTED =
  'the hardware has no free counter for it: others (the NMI watchdog, another perf) have them all';
