// SPDX-License-Identifier: Apache-2.0
/** Latencies, and packets as the dataplane sees them. */
import { z } from 'zod';
import {
  CAPTURE_LEASE_MS,
  CAPTURE_MAX_SNAPLEN,
  captureEnded,
  readCapture,
  startCapture,
  stopCapture,
} from '../../app/capture.ts';
import { readRtt, rttRemark } from '../../app/rtt.ts';
import { VnicError } from '../../errors.ts';
import { deviceText } from '../../loader/pins.ts';
import { readLatencyCells } from '../../telemetry/counters.ts';
import { measured } from '../../telemetry/metrics/part.ts';
import { queryNumber } from '../bodies.ts';
import { deviceParams } from '../device-param.ts';
import * as schemas from '../look-schemas.ts';
import { operation } from '../operation.ts';
import { histogramView } from '../views.ts';
import { bodyErrors, deviceErrors } from './error-sets.ts';

const DEFAULT_PPS = 20_000;

export const getLatency = operation({
  id: 'getLatency',
  method: 'get',
  path: '/api/v1/devices/{device}/latency',
  tag: 'dataplane',
  summary: 'Time to the CPU of the queue and to the socket, and round-trip times of TCP to each AZ',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({}),
  body: null,
  result: schemas.latencyReport,
  responses: { 200: { description: 'Histograms with quantiles.', schema: schemas.latencyReport } },
  errors: deviceErrors,
  run: ({ controller }, { params: { device } }) =>
    controller.readDevice(device, ({ dataplane, config, metrics }) => {
      const { mode, unstamped, unanswered, rows } = readRtt(dataplane);
      const azs = rows.slice(0, config.azs.length + 1).map((cells, row) => ({
        az: config.azs[row - 1]?.name ?? null,
        rtt: histogramView(cells),
      }));
      const remark = rttRemark({ mode, unstamped, unanswered, rows });
      const toCpu = histogramView(readLatencyCells(dataplane));
      const { tcp, udp } = metrics.socketTimes();
      const toSocket = { tcp: measured(tcp, histogramView), udp: measured(udp, histogramView) };
      const found = { toCpu, toSocket, rtt: { mode, remark, unstamped, unanswered, azs } };
      return { data: { device: deviceText(device), ...found } };
    }),
});

export const startCapturing = operation({
  id: 'startCapture',
  method: 'post',
  path: '/api/v1/devices/{device}/capture',
  tag: 'dataplane',
  summary: 'Begin to capture packets that arrive, as the dataplane sees them',
  description: 'One capture a device. Packets are fetched with readCapture; whoever stops fetching ends the capture.',
  access: 'write',
  params: deviceParams,
  query: z.strictObject({}),
  body: { schema: schemas.captureRequest, example: { rule: 7, snaplen: 128 } },
  result: schemas.captureStarted,
  responses: { 201: { description: 'It has begun.', schema: schemas.captureStarted } },
  errors: [...deviceErrors, ...bodyErrors, 'conflict'],
  run: ({ controller, publish }, { params: { device }, body }) =>
    controller.withDevice(device, ({ dataplane, config }) => {
      const { rule = null, az, snaplen = CAPTURE_MAX_SNAPLEN, count = null, packetsPerSecond = DEFAULT_PPS } = body;
      const azRow = az === undefined ? null : config.azs.findIndex(({ name }) => name === az) + 1;
      if (azRow === 0) throw unknown(`AZ ${az}`, 'vnicctl az list');
      if (rule !== null && !config.rules.some(({ id }) => id === rule)) {
        throw unknown(`rule ${rule}`, 'vnicctl rule list');
      }
      const session = startCapture(dataplane, { rule, azRow, snaplen, count, packetsPerSecond });
      publish({ type: 'capture.started', device: deviceText(device), data: { ...body } });
      return { data: { device: deviceText(device), session, snaplen, leaseMs: CAPTURE_LEASE_MS } };
    }),
});

function unknown(what: string, list: string): VnicError {
  return new VnicError('not_found', `The device has no ${what}.`, { remedy: `See: ${list}` });
}

export const readCapturing = operation({
  id: 'readCapture',
  method: 'post',
  path: '/api/v1/devices/{device}/capture/read',
  tag: 'dataplane',
  summary: 'Packets captured since the read before',
  access: 'write',
  params: deviceParams,
  query: z.strictObject({}),
  body: { schema: schemas.captureSession, example: { session: 1_234_567 } },
  result: schemas.captureRead,
  responses: { 200: { description: 'Packets, oldest first.', schema: schemas.captureRead } },
  errors: [...deviceErrors, ...bodyErrors, 'conflict'],
  run: ({ controller }, { params: { device }, body }) =>
    controller.readDevice(device, ({ dataplane, config }) => {
      const { packets, wasInterrupted, isComplete, ...counters } = readCapture(dataplane, body.session);
      const toRealNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();
      const views = packets.map(({ timeNs, az, isShadow, data, ...rest }) => ({
        time: String(timeNs + toRealNs),
        ...rest,
        az: config.azs[az - 1]?.name ?? null,
        shadow: isShadow,
        data: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64'),
      }));
      return { data: { packets: views, ...counters, interrupted: wasInterrupted, complete: isComplete } };
    }),
});

export const stopCapturing = operation({
  id: 'stopCapture',
  method: 'delete',
  path: '/api/v1/devices/{device}/capture',
  tag: 'dataplane',
  summary: 'End a capture',
  access: 'write',
  params: deviceParams,
  query: z.strictObject({ session: queryNumber(1, 0xffff_ffff) }),
  body: null,
  result: schemas.captureStopped,
  responses: { 200: { description: 'It has ended, or had before.', schema: schemas.captureStopped } },
  errors: deviceErrors,
  run: ({ controller, publish }, { params: { device }, query: { session } }) =>
    controller.readDevice(device, ({ dataplane }) => {
      const counters = session === undefined ? null : stopCapture(dataplane, session);
      if (counters !== null) {
        publish({ type: 'capture.ended', device: deviceText(device), data: captureEnded('stopped', counters) });
      }
      return { data: { device: deviceText(device), stopped: counters !== null } };
    }),
});

export const lookOperations = [getLatency, startCapturing, readCapturing, stopCapturing] as const;
