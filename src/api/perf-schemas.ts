// SPDX-License-Identifier: Apache-2.0
/** What the kernel's instruments say of a device, as the API gives it. */
import { z } from 'zod';
import { count, counter, unavailableReason as reason } from './schema-parts.ts';

const perfEvent = z
  .object({
    event: z.string(),
    kind: z.enum(['hardware', 'software']),
    unavailable: reason,
    cpus: z.array(z.object({ cpu: count, value: counter }).meta({ id: 'PerfCpuValue' })),
    countedShare: z
      .number()
      .nullable()
      .meta({ description: 'of the time, 0 to 1: below 1 the values are extrapolated, as counters were shared' }),
  })
  .meta({ id: 'PerfEvent', description: 'Everything that ran on the CPUs, since the daemon was started.' });

const programRuns = z.object({ program: z.string(), runs: counter, runTimeNs: counter }).meta({ id: 'ProgramRuns' });

const ring = z
  .object({
    cpu: count,
    ringFullDrops: counter,
    noMemoryDrops: counter,
    flow: z
      .object({ enqueued: counter, taken: counter, rounds: counter, sleeps: counter })
      .nullable()
      .meta({ description: 'null: only drops are counted' }),
  })
  .meta({ id: 'CpuRing', description: 'What is handed to a CPU.' });

const byReason = z.record(z.string(), counter);

const traces = z
  .object({
    rings: z.array(ring),
    redirectErrors: byReason,
    exceptions: byReason.meta({ description: 'by what the program had answered' }),
    polls: z
      .object({ polls: counter, packets: counter, exhausted: counter })
      .nullable()
      .meta({ description: 'null: not counted' }),
  })
  .meta({ id: 'Traces', description: 'Of tracepoints, since the daemon was started.' });

const driverQueue = z.object({ queue: count, driver: counter, unexplained: counter }).meta({
  id: 'DriverDrops',
  description: 'What XDP dropped as the driver counts, and what of it no rule or limit did.',
});

export const perfReport = z
  .object({
    device: z.string(),
    takenMs: z.number().meta({ description: 'two answers are so far apart' }),
    packets: z.object({ received: counter, steered: counter, dropped: counter }),
    events: z.array(perfEvent),
    programs: z.object({ counted: z.boolean(), runs: z.array(programRuns) }),
    traceMode: z.enum(['basic', 'all', 'off']),
    traces: z.object({ value: traces.nullable(), unavailable: reason }),
    driverDrops: z.object({ value: z.array(driverQueue).nullable(), unavailable: reason }),
  })
  .meta({ id: 'PerfReport', description: 'Counters; the difference of two answers is what happened between them.' });
