// SPDX-License-Identifier: Apache-2.0
/** AZs, failures of them and rebalancing, as operations take and give them. */
import { z } from 'zod';
import { azSchema } from '../config/schema.ts';
import { count, counter, latency, listOf, nullableInt } from './schema-parts.ts';

export const az = azSchema.meta({ id: 'AzSpec' });

/** Where the path names it. */
export const azBody = azSchema.partial({ name: true }).meta({ id: 'AzBody', description: 'The path has the name.' });

const milliseconds = z.number().min(0);

const bfdState = z.enum(['admin_down', 'down', 'init', 'up']);

const bfdSession = z
  .object({
    peer: z.string(),
    state: bfdState,
    remoteState: bfdState.nullable().meta({ description: 'null: nothing was heard yet' }),
    diag: z.string().meta({ description: 'why it is not up, as far as this side knows' }),
    remoteDiag: z.string(),
    left: z
      .boolean()
      .meta({ description: 'the peer took it down on purpose: it counts neither for nor against its AZ' }),
    upForMs: milliseconds.nullable(),
    downForMs: milliseconds.nullable().meta({ description: 'null: it is up, or never was' }),
    detectMs: milliseconds.nullable().meta({ description: 'how long nothing may be heard; null: not agreed yet' }),
    heardAgoMs: milliseconds.nullable(),
    lostAfterMs: milliseconds.nullable().meta({ description: 'how long nothing had been heard when it was lost last' }),
    received: counter,
    sent: counter,
    rejected: counter,
  })
  .meta({ id: 'BfdSession', description: 'RFC 5880, as this side sees it.' });

export const azHealth = z
  .object({
    silence: z
      .object({
        armed: z.boolean().meta({ description: 'enough arrived lately for silence to mean something' }),
        heardAgoMs: milliseconds.nullable(),
        lastWindowPackets: count.meta({ description: 'of the last stretch of `silence_ms` that a packet closed' }),
        floorPackets: count.meta({ description: 'asked of eight such stretches in a row' }),
        longestGapMs: milliseconds.meta({ description: 'without a packet while armed; `silence_ms` must be above it' }),
      })
      .nullable(),
    bfd: listOf(bfdSession),
    refused: z
      .enum(['silence', 'bfd'])
      .nullable()
      .meta({ description: 'the AZ is due to be taken out of use, and too few queues would be left' }),
  })
  .meta({ id: 'AzHealth', description: 'What the kernel sees of an AZ now.' });

export const azStatus = azSchema
  .extend({
    queues: z.array(count),
    weight: z.number(),
    prefixes: z.array(z.string()),
    state: z.enum(['up', 'failed']),
    cause: z.string().nullable(),
    since: z.string().nullable().meta({ description: 'ISO 8601', format: 'date-time' }),
    evidence: z.string().nullable().meta({ description: 'what the AZ was found dead by' }),
    health: azHealth.nullable().meta({ description: 'null: neither silence nor BFD is looked at' }),
    rtt: latency.nullable().meta({ description: 'round-trip times of TCP since attach; null: none measured yet' }),
  })
  .meta({ id: 'AzStatus' });

const moveCounts = {
  moved: count.meta({ description: 'buckets, over all rows of the steering table' }),
  forced: count,
  planned: count,
  collateral: count.meta({ description: 'moved without need: always 0' }),
  maxOverMean: z.number().meta({ description: 'the fullest queue against its share' }),
};

export const azChange = z
  .object({
    device: z.string(),
    az: z.string(),
    performed: z.boolean(),
    ...moveCounts,
    commitNs: z.number().nullable().meta({ description: 'how long the switch took; null if nothing was switched' }),
  })
  .meta({ id: 'AzChange' });

const moveCount = z.object({ from: nullableInt, to: nullableInt, buckets: count }).meta({ id: 'MoveCount' });

const nullablePps = z.number().nullable();

export const azPlan = z
  .object({
    device: z.string(),
    az: z.string(),
    action: z.enum(['fail', 'recover']),
    ...moveCounts,
    onFailed: count.meta({ description: 'buckets on queues of the AZ now, over all rows' }),
    flows: z
      .object({ known: count, moved: count })
      .nullable()
      .meta({ description: 'that came in within the last 10 s; null: not counted' }),
    queues: z.array(
      z
        .object({
          queue: count,
          az: z.string().nullable(),
          before: count.meta({ description: 'buckets' }),
          after: count,
          loadBeforePps: nullablePps.meta({ description: 'packets/s that the table steers to it; null: not measured' }),
          loadAfterPps: nullablePps.meta({ description: 'traffic of a failed AZ counts as if it went on' }),
        })
        .meta({ id: 'QueuePlan' }),
    ),
    loadWindowMs: nullablePps.meta({
      description: 'time over which loads were measured; null: each flow’s mean since it was first seen',
    }),
    breaches: z
      .array(z.object({ queue: count, loadPps: z.number(), capacityPps: z.number() }).meta({ id: 'CapacityBreach' }))
      .meta({ description: 'queues that would be given more than `queue_capacity_pps`; empty where that is not set' }),
    expectedDurationMs: z
      .object({
        commit: z.number().meta({ description: 'bound of the switch' }),
        settled: z.number().nullable().meta({ description: 'until planned moves are through, in order' }),
      })
      .meta({ id: 'ExpectedDuration' }),
    moves: z.array(moveCount),
  })
  .meta({ id: 'AzPlan', description: 'What the failure or the recovery of an AZ would do.' });

const ratio = z.number().min(0);

export const rebalanceResult = z
  .object({
    device: z.string(),
    performed: z.boolean().meta({ description: 'false for a dry run, and where nothing is moved' }),
    reason: z
      .enum(['moved', 'cool_down', 'no_load', 'balanced', 'below_min_gain'])
      .meta({ description: '`moved` (or would be), or why nothing is' }),
    before: ratio.meta({ description: 'largest load of a queue over its fair load' }),
    after: ratio,
    reached: z.boolean().meta({ description: '`after` is at most what is aimed at' }),
    moved: count.meta({ description: 'buckets, over all rows of the steering table' }),
    moves: z.array(moveCount),
    coolDownLeftMs: count.nullable().meta({ description: 'until the next one may be; null: not waited for' }),
    commitNs: z.number().nullable().meta({ description: 'how long the switch took; null if nothing was switched' }),
  })
  .meta({ id: 'RebalanceResult' });
