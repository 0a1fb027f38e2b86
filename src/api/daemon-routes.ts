// SPDX-License-Identifier: Apache-2.0
/** Routes that the daemon answers itself, beside the operations on devices. All of them read. */
import { z } from 'zod';
import type { ErrorCode } from '../errors.ts';
import { nodeStatusSchema } from '../fleet/core/values.ts';

export interface Route {
  id: string;
  path: string;
  summary: string;
  description?: string;
  query?: z.ZodObject;
  /** Media types, the first is the default. */
  types: readonly string[];
  /** Of the JSON type, if there is one. */
  schema: z.ZodType;
  errors?: readonly ErrorCode[];
  statuses?: readonly { status: number; description: string }[];
}

const health = z.object({ status: z.string() }).meta({ id: 'Health' });

const metrics = z
  .object({
    metrics: z.array(
      z.looseObject({
        name: z.string(),
        type: z.enum(['counter', 'gauge', 'histogram', 'summary']),
        help: z.string(),
        unit: z.string().nullable().optional(),
        series: z.array(z.looseObject({ labels: z.record(z.string(), z.string()) })),
      }),
    ),
    unavailable: z.array(z.looseObject({ name: z.string(), reason: z.string() })),
  })
  .meta({ id: 'Metrics' });

const { version: _version, traffic: _traffic, ...nodeFields } = nodeStatusSchema.shape;

const fleet = z
  .object({
    prefix: z.string(),
    connected: z.boolean(),
    endpoint: z.string().nullable().meta({ description: 'the member of etcd that is asked now' }),
    lastSyncAgeSeconds: z.number().nullable().meta({ description: 'since etcd was heard of; null: never' }),
    ...nodeFields,
    declarations: z.array(
      z.object({
        az: z.string(),
        by: z.enum(['operator', 'quorum']),
        who: z.string(),
        reason: z.string(),
        since: z.string(),
        witnesses: z.array(z.string()),
      }),
    ),
  })
  .meta({ id: 'FleetNode' });

const accessErrors = ['unauthorized', 'not_permitted', 'too_many_requests'] as const;

export const daemonRoutes: readonly Route[] = [
  {
    id: 'getPage',
    path: '/',
    summary: 'The live page: devices, queues, AZs, flows, rules and events, for browsers',
    types: ['text/html'],
    schema: z.string(),
    errors: ['too_many_requests'],
  },
  {
    id: 'getHealth',
    path: '/healthz',
    summary: 'The daemon runs',
    types: ['application/json'],
    schema: health,
    errors: ['too_many_requests'],
  },
  {
    id: 'getReadiness',
    path: '/readyz',
    summary: 'Every device is adopted or attached, and verified',
    types: ['application/json'],
    schema: health,
    errors: ['not_ready', 'too_many_requests'],
  },
  {
    id: 'getMetricsText',
    path: '/metrics',
    summary: 'Metrics for Prometheus',
    types: ['text/plain', 'application/openmetrics-text'],
    schema: z.string(),
    errors: [...accessErrors, 'not_ready'],
  },
  {
    id: 'getMetrics',
    path: '/api/v1/metrics',
    summary: 'The same metrics as JSON',
    types: ['application/json'],
    schema: metrics,
    errors: [...accessErrors, 'not_ready'],
  },
  {
    id: 'getFleet',
    path: '/api/v1/fleet',
    summary: 'This machine as a node of its fleet: what is asked for, what is in effect, what is wrong',
    types: ['application/json'],
    schema: fleet,
    errors: [...accessErrors, 'not_found', 'not_ready'],
  },
  {
    id: 'getOpenApi',
    path: '/api/v1/openapi.json',
    summary: 'This document',
    types: ['application/json'],
    schema: z.looseObject({ openapi: z.string() }),
    errors: [...accessErrors],
  },
  {
    id: 'getReference',
    path: '/api/v1/reference',
    summary: 'This document as a page to read',
    types: ['text/html'],
    schema: z.string(),
    errors: [...accessErrors],
  },
  {
    id: 'followEvents',
    path: '/api/v1/events',
    summary: 'What happens, as server-sent events',
    description:
      'After a break, Last-Event-ID (which browsers send by themselves) brings what was missed. An event `reset` says that some of it is not kept any more: read everything again. `latest` asks for so many earlier events first. The data of every event but `reset` is an Event (see the schemas).',
    query: z.object({ latest: z.string().optional() }),
    types: ['text/event-stream'],
    schema: z.string(),
    errors: ['usage', ...accessErrors, 'not_acceptable', 'not_ready'],
  },
];
