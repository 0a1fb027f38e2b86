// SPDX-License-Identifier: Apache-2.0
/** The OpenAPI 3.1 document, made from the operations and the schemas that check them. */
import { z } from 'zod';
import { createDocument, type ZodOpenApiOperationObject, type ZodOpenApiPathsObject } from 'zod-openapi';
import { type ErrorCode, errorTable } from '../errors.ts';
import { daemonRoutes, type Route } from './daemon-routes.ts';
import type { Operation, ResponseSpec } from './operation.ts';
import { operations } from './operations/index.ts';
import { PROBLEM_TYPE } from './problem.ts';
import { event, problem } from './schemas.ts';

/** What every operation can answer with, whoever asks. */
const commonErrors: readonly ErrorCode[] = ['usage', 'not_acceptable', 'too_many_requests', 'not_ready'];
/** Asked for over TCP. */
const accessErrors: readonly ErrorCode[] = ['unauthorized', 'not_permitted'];

const tags = [
  { name: 'devices', description: 'Attach, detach, look at and mend devices.' },
  { name: 'rules', description: 'What is dropped, limited, or sent to which queues.' },
  { name: 'azs', description: 'Availability zones: their queues, failure and recovery.' },
  { name: 'dataplane', description: 'Queues, flows, the steering table, and what it would do with a packet.' },
  {
    name: 'tuning',
    description: 'The host side of a device: interrupts, XPS, RPS, rings, channels, coalescing, halt polling.',
  },
  { name: 'daemon', description: 'The daemon itself: readiness, metrics, events.' },
];

export function openApiDocument(version: string) {
  const paths: ZodOpenApiPathsObject = {};
  for (const operation of operations) put(paths, operation.path, operation.method, describeOperation(operation));
  for (const route of daemonRoutes) put(paths, route.path, 'get', describeRoute(route));
  return createDocument({
    openapi: '3.1.1',
    info: {
      title: 'vnicd',
      version,
      description:
        'Rules, AZs and state of devices that vnicctl attached. Errors are problem objects (RFC 9457) with a stable `code`.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: 'http://127.0.0.1:9090', description: 'Reading; writing with a token of scope write.' }],
    tags,
    security: [{}, { bearer: [] }],
    paths,
    components: {
      // OpenAPI 3.1 cannot say what the events of a stream are made of.
      schemas: { Event: event },
      securitySchemes: {
        bearer: {
          type: 'http',
          scheme: 'bearer',
          description: 'Not needed on the Unix socket, nor for reading on loopback.',
        },
      },
    },
  });
}

function put(paths: ZodOpenApiPathsObject, path: string, method: string, described: ZodOpenApiOperationObject): void {
  paths[path] = { ...paths[path], [method]: described };
}

const ifMatch = z.string().optional().meta({
  description: 'ETag of what is to be changed, as it was read: 412 if it is another one now.',
});
const ifNoneMatch = z.string().optional().meta({ description: '`*`: only if it is not there yet.' });

function describeOperation(operation: Operation): ZodOpenApiOperationObject {
  const { id, tag, summary, description, params, query, body } = operation;
  const isConditional = operation.errors.includes('precondition_failed');
  const errors = [...commonErrors, ...accessErrors, ...operation.errors];
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    ...(operation.access === 'write' ? { security: [{ bearer: [] }, {}] } : {}),
    requestParams: {
      ...(isEmpty(params) ? {} : { path: params }),
      ...(isEmpty(query) ? {} : { query }),
      ...(isConditional ? { header: z.object({ 'If-Match': ifMatch, 'If-None-Match': ifNoneMatch }) } : {}),
    },
    ...(body === null
      ? {}
      : {
          requestBody: {
            required: body.optional !== true,
            content: {
              'application/json': {
                schema: body.schema,
                ...(body.example === undefined ? {} : { example: body.example }),
              },
              ...Object.fromEntries((body.otherTypes ?? []).map((type) => [type, { schema: z.string() }])),
            },
          },
        }),
    responses: { ...successes(operation.responses), ...problems(errors), default: failure },
  };
}

function isEmpty(schema: z.ZodObject): boolean {
  return Object.keys(schema.shape).length === 0;
}

const etagHeader = z.string().meta({ description: 'Names what was read or written, for If-Match.' });

function successes(responses: Readonly<Record<number, ResponseSpec>>): ZodOpenApiOperationObject['responses'] {
  const described = Object.entries(responses).map(([status, { description, schema, otherTypes = [], etag }]) => [
    status,
    {
      description,
      ...(etag === true ? { headers: z.object({ ETag: etagHeader }) } : {}),
      ...(schema === null
        ? {}
        : {
            content: {
              'application/json': { schema },
              ...Object.fromEntries(otherTypes.map((type) => [type, { schema: z.string() }])),
            },
          }),
    },
  ]);
  return Object.fromEntries(described) as ZodOpenApiOperationObject['responses'];
}

/** One response for each status, with all codes that have it. */
function problems(codes: readonly ErrorCode[]): ZodOpenApiOperationObject['responses'] {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of new Set(codes)) {
    const { httpStatus } = errorTable[code];
    byStatus.set(httpStatus, [...(byStatus.get(httpStatus) ?? []), code]);
  }
  // What fails on our side is described once: no client can tell these apart by more than their code.
  const described = [...byStatus]
    .filter(([status]) => status !== 500)
    .map(([status, list]) => [
      String(status),
      {
        description: list.map((code) => `\`${code}\`: ${errorTable[code].meaning}`).join('\n\n'),
        content: { [PROBLEM_TYPE]: { schema: problem } },
      },
    ]);
  return Object.fromEntries(described) as ZodOpenApiOperationObject['responses'];
}

const failure = {
  description: 'The operation failed on the side of the daemon; the problem says why.',
  content: { [PROBLEM_TYPE]: { schema: problem } },
};

function describeRoute({ id, summary, description, query, types, schema, errors, statuses }: Route) {
  const content = Object.fromEntries(
    types.map((type) => [type, { schema: type.endsWith('json') ? schema : z.string() }]),
  );
  return {
    operationId: id,
    tags: ['daemon'],
    summary,
    ...(description === undefined ? {} : { description }),
    ...(query === undefined ? {} : { requestParams: { query } }),
    responses: {
      200: { description: summary, content },
      ...Object.fromEntries((statuses ?? []).map(({ status, description: text }) => [status, { description: text }])),
      ...problems(errors ?? []),
    },
  } as ZodOpenApiOperationObject;
}
