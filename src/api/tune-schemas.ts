// SPDX-License-Identifier: Apache-2.0
/** Tuning of the host side, as operations take and give it. Values are texts: sets of CPUs and queues are lists. */
import { z } from 'zod';
import { deviceFields } from '../config/schema.ts';
import { holders } from '../tune/journal.ts';
import { noteCodes } from '../tune/plan.ts';
import { count, listOf } from './schema-parts.ts';

const name = z.string().meta({ description: 'as in tx-3/xps_cpus', examples: ['tx-3/xps_cpus'] });

export const coalescingStatus = z
  .object({
    delayUsecs: count.meta({ description: 'allowed now; 0: settings are as they were before' }),
    packetsPerSecond: z.number(),
    changes: count,
    via: z.enum(['ethtool', 'napi', 'none']).meta({
      description:
        'napi: the device cannot delay interrupts, a timer polls it; none: it raises no interrupts, and there is nothing to delay',
    }),
    stopped: z.string().nullable().meta({ description: 'why it does not go on; null: it does' }),
  })
  .meta({ id: 'CoalescingStatus', description: 'How long interrupts may be delayed, set by the load.' });

export const tuneRequest = z
  .strictObject({
    num_queues: deviceFields.num_queues,
    numa_node: deviceFields.numa_node,
    coalesce_usecs: deviceFields.coalesce_usecs,
    enable_numa_aware: deviceFields.enable_numa_aware,
    adaptive_coalesce: deviceFields.adaptive_coalesce,
  })
  .meta({
    id: 'TuneRequest',
    description: 'For a device that is not attached: fields of its configuration. Without any: what is recorded of it.',
  });

const foreignSetting = z
  .object({
    name,
    expected: z.string().meta({ description: 'what it was set to' }),
    now: z.string(),
    before: z.string().nullable().meta({ description: 'what it was before it was set' }),
  })
  .meta({ id: 'ForeignSetting', description: 'A setting that somebody else has changed since it was set here.' });

const heldSetting = z
  .object({
    name,
    before: z.string().nullable().meta({ description: 'null: there was none, it came with the channels' }),
    now: z.string().nullable().meta({ description: 'null: it is gone' }),
    by: z.array(z.enum(holders)).meta({ description: 'the last one decides' }),
  })
  .meta({ id: 'HeldSetting', description: 'A setting that was changed here and will be put back.' });

const status = {
  held: z.array(heldSetting),
  foreign: listOf(foreignSetting),
  interrupted: z.boolean().meta({ description: 'a process died while it was setting or putting back' }),
};

export const tuningStatus = z.object({ device: z.string(), ...status }).meta({ id: 'TuningStatus' });

export const tuneResult = z
  .object({
    device: z.string(),
    attached: z.boolean(),
    performed: z.boolean().meta({ description: 'false for a dry run' }),
    settings: listOf(
      z
        .object({
          name,
          from: z.string().nullable().meta({ description: 'null: it comes with the channels' }),
          to: z.string(),
          why: z.string(),
        })
        .meta({ id: 'PlannedSetting' }),
    ).meta({ description: 'what was set, or would be, in this order' }),
    queueCpus: listOf(count).meta({ description: 'the CPU of each receive queue' }),
    notes: listOf(z.object({ code: z.enum(noteCodes), text: z.string() })).meta({
      description: 'what tuning cannot do, or leaves alone',
    }),
    ...status,
  })
  .meta({ id: 'TuneResult' });

export const releasedSettings = z
  .object({
    restored: listOf(z.object({ name, from: z.string(), to: z.string() })),
    foreign: listOf(foreignSetting).meta({ description: 'left as they are; with force there are none' }),
    failed: listOf(z.object({ name, to: z.string(), message: z.string() })).meta({
      description: 'could not be written; tried again by the next restore',
    }),
  })
  .meta({ id: 'ReleasedSettings', description: 'Settings that were put back, and those that were not.' });

export const restoreResult = releasedSettings.extend({ device: z.string() }).meta({ id: 'RestoreResult' });
