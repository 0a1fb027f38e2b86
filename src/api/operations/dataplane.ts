// SPDX-License-Identifier: Apache-2.0
/** A look into the dataplane: queues, flows, the steering table, and what it would do with a packet. */
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { MAX_FRAME_BYTES } from '../../app/explain.ts';
import { FlowTable } from '../../app/flow-table.ts';
import { flowStatus, topFlows } from '../../app/flows.ts';
import { buildFrame } from '../../captures/build-frame.ts';
import { VnicError } from '../../errors.ts';
import { deviceText } from '../../loader/pins.ts';
import { familyOf, makePrefix, parseAddress } from '../../steering/rules/prefix.ts';
import { formatProtocol, hasPorts, PROTO_ICMP, PROTO_ICMPV6, parseProtocol } from '../../steering/rules/protocols.ts';
import { queryNumber } from '../bodies.ts';
import { deviceParams } from '../device-param.ts';
import { operation } from '../operation.ts';
import { perfReport } from '../perf-schemas.ts';
import * as schemas from '../schemas.ts';
import { bodyErrors, deviceErrors } from './error-sets.ts';

const DEFAULT_TOP = 20;
const MAX_TOP = 2 ** 26;

export const listQueues = operation({
  id: 'listQueues',
  method: 'get',
  path: '/api/v1/devices/{device}/queues',
  tag: 'dataplane',
  summary: 'Packets of each queue',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({}),
  body: null,
  result: schemas.page(schemas.queueStatus),
  responses: { 200: { description: 'All queues.', schema: schemas.page(schemas.queueStatus) } },
  errors: deviceErrors,
  run: ({ controller }, { params: { device } }) =>
    controller.readDevice(device, (attached) => ({ data: { items: attached.queues(), next: null } })),
});

export const listFlows = operation({
  id: 'listFlows',
  method: 'get',
  path: '/api/v1/devices/{device}/flows',
  tag: 'dataplane',
  summary: 'The top flows',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({
    top: queryNumber(1, MAX_TOP),
    by: z.enum(['bytes', 'packets', 'rate'], 'bytes, packets or rate').optional(),
  }),
  body: null,
  result: schemas.page(schemas.flow),
  responses: { 200: { description: 'Flows, the largest first.', schema: schemas.page(schemas.flow) } },
  errors: deviceErrors,
  run: async ({ controller }, { params: { device }, query: { top = DEFAULT_TOP, by = 'bytes' } }) => {
    const { meter, opened } = controller.readDevice(device, ({ dataplane, flowMeter }) => ({
      meter: flowMeter,
      opened: new FlowTable(dataplane),
    }));
    using table = opened;
    // Only an order by rate needs two looks; else the second one is whoever asks next.
    if (by === 'rate') await sleep(await meter.prepare(table));
    const found = await topFlows(table, top, by, meter);
    return controller.readDevice(device, (attached) => ({
      data: { items: flowStatus(found, attached), next: null },
    }));
  },
});

export const getTable = operation({
  id: 'getTable',
  method: 'get',
  path: '/api/v1/devices/{device}/table',
  tag: 'dataplane',
  summary: 'The steering table that packets meet',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({}),
  body: null,
  result: schemas.steeringTable,
  responses: { 200: { description: 'Queue of each bucket in each row.', schema: schemas.steeringTable } },
  errors: deviceErrors,
  run: ({ controller }, { params: { device } }) =>
    controller.readDevice(device, (attached) => ({
      data: { device: deviceText(device), ...attached.steeringTable() },
    })),
});

export const getPerf = operation({
  id: 'getPerf',
  method: 'get',
  path: '/api/v1/devices/{device}/perf',
  tag: 'dataplane',
  summary: 'What the kernel’s instruments count: perf events, tracepoints, run times, the driver’s drops',
  description: 'What the machine does not have is named with the reason, and never 0.',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({}),
  body: null,
  result: perfReport,
  responses: { 200: { description: 'Counters of now.', schema: perfReport } },
  errors: deviceErrors,
  run: ({ controller }, { params: { device } }) =>
    controller.readDevice(device, (attached) => ({ data: { device: deviceText(device), ...attached.perf() } })),
});

const endpoint = z.string('an address such as 10.1.0.5 or fd00:a::1').max(64);
const port = z.int('a port from 0 to 65535').min(0, 'a port from 0 to 65535').max(65_535, 'a port from 0 to 65535');

const explainRequest = z
  .strictObject({
    src: endpoint,
    dst: endpoint,
    srcPort: port.optional(),
    dstPort: port.optional(),
    proto: z.union([z.string(), z.number()], 'a protocol name or number'),
    direction: z.enum(['ingress', 'egress'], 'ingress or egress').optional(),
    bytes: z
      .int(`a frame length from 1 to ${MAX_FRAME_BYTES}`)
      .min(1, `a frame length from 1 to ${MAX_FRAME_BYTES}`)
      .max(MAX_FRAME_BYTES, `a frame length from 1 to ${MAX_FRAME_BYTES}`)
      .optional()
      .meta({ description: 'length of the frame, for limits' }),
  })
  .meta({ id: 'ExplainRequest' });

/** Readers of rules complain of rules; here it is the request. */
function readField<T>(field: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof VnicError)) throw error;
    throw new VnicError('usage', `${field}: ${error.message}.`, {
      remedy: error.remedy ?? 'Correct it.',
      cause: error,
    });
  }
}

function frameOf(request: z.output<typeof explainRequest>): Uint8Array {
  const src = readField('src', () => parseAddress(request.src));
  const dst = readField('dst', () => parseAddress(request.dst));
  const named = readField('proto', () => parseProtocol(request.proto));
  const isIpv6 = familyOf(makePrefix(dst, 128)) === 6;
  if ((familyOf(makePrefix(src, 128)) === 6) !== isIpv6) {
    throw new VnicError('usage', 'src and dst are of different families: no packet has both.', {
      remedy: 'Give two IPv4 or two IPv6 addresses.',
    });
  }
  const proto = named === PROTO_ICMP && isIpv6 ? PROTO_ICMPV6 : named;
  const ports = { srcPort: request.srcPort ?? 0, dstPort: request.dstPort ?? 0 };
  if (!hasPorts(proto) && (ports.srcPort !== 0 || ports.dstPort !== 0)) {
    throw new VnicError('usage', `${formatProtocol(proto)} has no ports.`, { remedy: 'Leave the ports out.' });
  }
  return buildFrame({
    src,
    dst,
    ...ports,
    proto,
    ...(request.bytes === undefined ? {} : { frameBytes: request.bytes }),
  });
}

export const explainPacket = operation({
  id: 'explainPacket',
  method: 'post',
  path: '/api/v1/devices/{device}/explain',
  tag: 'dataplane',
  summary: 'What the dataplane would do with a packet, and why',
  description: 'Asked of the loaded program itself, without any side effect.',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({}),
  body: {
    schema: explainRequest,
    example: { src: '10.1.0.5', srcPort: 40_000, dst: '10.9.0.1', dstPort: 443, proto: 'tcp' },
  },
  result: schemas.explanation,
  responses: { 200: { description: 'Rule, AZ, bucket, queue, CPU, verdict.', schema: schemas.explanation } },
  errors: [...deviceErrors, ...bodyErrors, 'kernel_refused'],
  run: ({ controller }, { params: { device }, body }) => {
    const frame = frameOf(body);
    const { direction = 'ingress' } = body;
    return controller.readDevice(device, (attached) => ({
      data: { device: deviceText(device), direction, ...attached.explain(frame, direction) },
    }));
  },
});

export const dataplaneOperations = [listQueues, listFlows, getTable, getPerf, explainPacket] as const;
