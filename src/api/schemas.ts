// SPDX-License-Identifier: Apache-2.0
/**
 * What operations take and give, beside the rule and configuration schemas: the shapes that the OpenAPI document publishes
 * under their names. Units are in the names of the fields.
 */
import { z } from 'zod';
import { deviceFields, failoverSchema } from '../config/schema.ts';
import { errorTable } from '../errors.ts';
import { redirectModes, redirectSettings } from '../steering/redirect.ts';
import { MAX_RULE_ID } from '../steering/rules/model.ts';
import { ruleSchema } from '../steering/rules/schema.ts';
import { az, azStatus } from './az-schemas.ts';
import { count, counter, latency, listOf, nullableInt } from './schema-parts.ts';
import { coalescingStatus, releasedSettings } from './tune-schemas.ts';

export * from './az-schemas.ts';
export { counter } from './schema-parts.ts';

export const ruleId = z.int().min(1).max(MAX_RULE_ID).meta({ description: 'chosen by the client' });

export const rule = ruleSchema.meta({ id: 'Rule', description: 'What is dropped, limited or sent to given queues.' });

/** Where the path names it. */
export const ruleBody = ruleSchema.partial({ id: true }).meta({ id: 'RuleBody', description: 'The path has the id.' });

export const ruleCounters = z
  .object({ packets: counter, bytes: counter, droppedPackets: counter, droppedBytes: counter })
  .meta({ id: 'RuleCounters', description: 'Since the rule was made; a change of the rule keeps them.' });

export const ruleView = ruleSchema
  .extend({ counters: ruleCounters })
  .meta({ id: 'RuleWithCounters', description: 'A rule as it was given, with its live counters.' });

export const ruleWarning = z
  .object({
    code: z.string(),
    ruleIds: listOf(ruleId).meta({ description: 'the rule concerned first, then those that are the reason' }),
    message: z.string(),
  })
  .meta({ id: 'RuleWarning' });

export const ruleChanges = z
  .object({
    device: z.string(),
    added: z.array(ruleId),
    changed: z.array(ruleId),
    removed: z.array(ruleId),
    unchanged: count,
    warnings: z.array(ruleWarning),
    performed: z.boolean().meta({ description: 'false for a dry run' }),
  })
  .meta({ id: 'RuleChanges', description: 'What a write changed, or would change.' });

export const queueStatus = z
  .object({
    queue: count,
    rxPackets: counter,
    rxBytes: counter,
    steeredPackets: counter,
    steeredBytes: counter,
    droppedPackets: counter,
    droppedBytes: counter,
    txPackets: counter,
    txBytes: counter,
    missedPackets: counter,
    directPackets: counter,
    offCpuPackets: counter,
    az: z.string().nullable(),
    cpu: nullableInt,
    usable: z.boolean(),
  })
  .meta({
    id: 'QueueStatus',
    description:
      'Of the packets steered to the queue, missedPackets arrived on another NIC queue; directPackets arrived on this one and were passed there; offCpuPackets arrived on this one, but not on its CPU.',
  });

const direction = z.enum(['ingress', 'egress']);
const packetVerdict = z.enum(['pass', 'drop', 'limit']);

export const flow = z
  .object({
    direction,
    src: z.string(),
    dst: z.string(),
    srcPort: count,
    dstPort: count,
    proto: count,
    packets: z.number(),
    bytes: z.number(),
    droppedPackets: z.number(),
    droppedBytes: z.number(),
    bitsPerSecond: z.number().meta({
      description:
        'since an earlier look of at most 10 s ago; if nobody looked and by is not rate: since the flow began',
    }),
    ageSeconds: z.number(),
    idleSeconds: z.number(),
    queue: nullableInt,
    az: z.string().nullable(),
    rule: nullableInt,
    verdict: packetVerdict,
  })
  .meta({ id: 'Flow' });

export const explanation = z
  .object({
    device: z.string(),
    direction,
    parsed: z.boolean(),
    unparsed: z.string().nullable(),
    src: z.string(),
    dst: z.string(),
    srcPort: count,
    dstPort: count,
    proto: count,
    frameBytes: count,
    flowKnown: z.boolean(),
    verdictCached: z.boolean(),
    rule: nullableInt,
    action: z.enum(['pass', 'drop']),
    limit: z
      .object({ scope: z.enum(['rule', 'flow']), over: z.boolean(), debtNs: z.number(), shadow: z.boolean() })
      .nullable(),
    az: z.string().nullable(),
    hash: count,
    bucket: count,
    table: nullableInt,
    queue: nullableInt,
    cpu: nullableInt,
    arrival: z
      .object({
        queue: count,
        direct: z.boolean().meta({ description: 'it was passed there, without a CPUMAP entry' }),
      })
      .nullable()
      .meta({ description: 'where the last packet of the flow arrived' }),
    verdict: packetVerdict,
  })
  .meta({ id: 'Explanation', description: 'What the loaded program would do with a packet.' });

export const finding = z
  .object({
    code: z.string(),
    severity: z.enum(['blocks', 'degrades', 'info']),
    message: z.string(),
    whoMustChange: z.enum(['guest', 'hypervisor', 'nobody', 'user']),
    remedy: z.string().nullable(),
    source: z.string().optional(),
    details: z.record(z.string(), z.unknown()).optional(),
  })
  .meta({ id: 'Finding' });

const redirectChoice = {
  mode: z.enum(redirectModes),
  trial: z.enum(['rss', 'follow']).nullable().meta({ description: 'what the device is tried for' }),
  reason: z.string(),
};

export const redirect = z.object(redirectChoice).meta({
  id: 'Redirect',
  description: 'How packets come to the CPU of their queue, and why so.',
});

export const redirectStatus = z
  .object({
    asked: z.enum(redirectSettings),
    ...redirectChoice,
    since: z.string().meta({ format: 'date-time' }),
    device: z
      .object({ flows: count, obeyed: count, verdict: z.enum(['obeys', 'disobeys', 'unknown']) })
      .nullable()
      .meta({
        description:
          'flows of the last minute that arrive where the device should send them; null: nothing is asked of it',
      }),
    steeredPackets: counter,
    missedPackets: counter,
    directPackets: counter,
    offCpuPackets: counter,
  })
  .meta({
    id: 'RedirectStatus',
    description:
      'Of the packets that were steered, missedPackets arrived on another NIC queue than theirs; directPackets were passed where they arrived; offCpuPackets arrived on their queue, but not on its CPU (see vnicctl tune).',
  });

export const diagnosis = z
  .object({
    device: z.string(),
    mode: z.enum(['native', 'generic']),
    verdict: z.enum(['ok', 'degraded', 'blocked']),
    findings: listOf(finding),
    redirect: redirect
      .nullable()
      .meta({ description: 'what attaching with redirect=auto would choose; null: there is no device' }),
  })
  .meta({ id: 'Diagnosis' });

export const steeringTable = z
  .object({
    device: z.string(),
    generation: nullableInt.meta({ description: 'null: steering is off' }),
    usableQueues: z.array(count),
    rows: z.array(
      z
        .object({
          row: count,
          az: z.string().nullable(),
          queues: z.array(nullableInt).meta({ description: 'queue of each of the 4096 buckets' }),
        })
        .meta({ id: 'TableRow' }),
    ),
  })
  .meta({ id: 'SteeringTable', description: 'Row 0 serves addresses that belong to no AZ.' });

export const drift = z
  .object({ what: z.string(), spec: z.string(), kernel: z.string() })
  .meta({ id: 'Drift', description: 'Where the kernel differs from what was asked for.' });

const byReason = z.record(z.string(), counter);

export const dataplaneCounters = z
  .object({
    rxPackets: counter,
    rxBytes: counter,
    parsed: counter,
    unparsed: byReason,
    drops: byReason,
    redirected: counter,
    passed: counter,
    received: counter,
    notReceived: counter,
    flowsCreated: counter,
    flowsEvicted: counter,
    flowTableBusy: counter,
    reclassified: counter,
    limiterContended: counter,
    metadataFailed: counter,
    txUnsteeredPackets: counter,
    movesInOrder: counter,
    movesForced: counter,
    movesRisked: counter,
    heldPackets: counter,
  })
  .meta({ id: 'DataplaneCounters' });

export const deviceStatus = z
  .object({
    device: z.string(),
    mode: z.enum(['native', 'generic']),
    egress: z.enum(['tcx', 'clsact', 'off']),
    queues: count,
    redirect: redirectStatus,
    ifindex: count,
    activeTable: nullableInt,
    ruleGeneration: count,
    rules: count,
    azs: z.array(azStatus),
    failover: failoverSchema.meta({ id: 'Failover', description: 'How the device is failed over and rebalanced.' }),
    counters: dataplaneCounters,
    latency,
    drift: z.array(drift),
    coalescing: coalescingStatus.nullable().meta({ description: 'null: no daemon adapts it' }),
    damagedFiles: z.array(z.string()).meta({ description: 'state files that could not be read and were kept aside' }),
  })
  .meta({ id: 'DeviceStatus' });

/** Filled in below; a problem may stand inside other results. */
export const problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.enum(Object.keys(errorTable) as [keyof typeof errorTable, ...(keyof typeof errorTable)[]]),
    remedy: z.string().optional(),
  })
  .loose()
  .meta({ id: 'Problem', description: 'RFC 9457. `code` is stable; see the error reference.' });

export const deviceSummary = z
  .object({
    device: z.string().meta({ description: 'NAME, or NAME@NETNS' }),
    name: z.string(),
    netns: z.string().nullable(),
    state: z
      .enum(['attached', 'gone', 'failed'])
      .meta({ description: 'gone: attached again when the device comes back; failed: problem says why' }),
    problem: problem.nullable(),
  })
  .meta({ id: 'DeviceSummary' });

export const attachRequest = z
  .strictObject({
    name: z.string(),
    netns: z.string().nullable().optional(),
    mode: z.enum(['native', 'generic']).optional(),
    egress: z.enum(['tcx', 'clsact', 'off']).optional(),
    maxFlows: z
      .int()
      .min(8)
      .max(2 ** 26)
      .optional(),
    maxRules: z.int().min(1).max(1_048_574).optional(),
    deliverMetadata: z.boolean().optional(),
    ...deviceFields,
    azs: z.array(az).optional(),
    rules: z.array(rule).optional(),
  })
  .meta({
    id: 'AttachRequest',
    description: 'Without any field of the device’s configuration, what is recorded of the device is used.',
  });

export const attachResult = z
  .object({
    device: z.string(),
    mode: z.enum(['native', 'generic']),
    egress: z.enum(['tcx', 'clsact', 'off']),
    queues: count,
    redirect,
    azs: count,
    rules: count,
    source: z.enum(['config', 'record', 'defaults']),
    actions: z.array(z.looseObject({ kind: z.string(), text: z.string() }).meta({ id: 'AttachAction' })),
    findings: listOf(finding),
    performed: z.boolean(),
  })
  .meta({ id: 'AttachResult' });

export const detachResult = z
  .object({
    device: z.string(),
    detached: z.boolean(),
    pins: z.array(z.string()),
    settings: releasedSettings.nullable().meta({ description: 'null for a dry run' }),
  })
  .meta({ id: 'DetachResult' });

export const mendResult = z
  .object({
    device: z.string(),
    performed: z.boolean(),
    drift: z.array(drift).meta({ description: 'what was found' }),
    actions: z.array(z.string()).meta({ description: 'what was done, or would be' }),
  })
  .meta({ id: 'MendResult' });

export const event = z
  .object({
    id: z.string(),
    time: z.string().meta({ format: 'date-time' }),
    type: z.string(),
    device: z.string().nullable(),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'Event' });

/** A list with a cursor to its next part. */
export function page<Item extends z.ZodType>(item: Item) {
  return z.object({ items: z.array(item), next: z.string().nullable() });
}
