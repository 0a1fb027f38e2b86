// SPDX-License-Identifier: Apache-2.0
/** Tuning of the host side of a device: interrupts, XPS, RPS, rings, channels, coalescing, halt polling. */
import { z } from 'zod';
import { restoreTuning, tuneDevice, tuningStatus } from '../../app/tuning/tune-device.ts';
import { parseDevice } from '../../config/device.ts';
import { deviceText } from '../../loader/pins.ts';
import { checkInput, dryRunQuery, parseJson, queryFlag } from '../bodies.ts';
import { deviceParams } from '../device-param.ts';
import { operation } from '../operation.ts';
import * as schemas from '../tune-schemas.ts';
import { heldViews } from '../views.ts';
import { bodyErrors } from './error-sets.ts';

const tuneErrors = ['not_found', 'state_damaged', 'kernel_refused'] as const;

export const getTuning = operation({
  id: 'getTuning',
  method: 'get',
  path: '/api/v1/devices/{device}/tune',
  tag: 'tuning',
  summary: 'Settings of the host side that were changed, and what they were before',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({}),
  body: null,
  result: schemas.tuningStatus,
  responses: { 200: { description: 'The settings.', schema: schemas.tuningStatus } },
  errors: tuneErrors,
  run: ({ controller }, { params: { device } }) => {
    const status = tuningStatus(controller, device);
    return { data: { ...status, device: deviceText(device), held: heldViews(status.held) } };
  },
});

/** Values are checked with the configuration, so that every problem is found. */
const tuneOutline = z.strictObject(
  Object.fromEntries(Object.keys(schemas.tuneRequest.shape).map((field) => [field, z.unknown().optional()])),
);

type TuneBody = z.output<typeof schemas.tuneRequest>;

export const applyTuning = operation({
  id: 'applyTuning',
  method: 'post',
  path: '/api/v1/devices/{device}/tune',
  tag: 'tuning',
  summary: 'Set interrupts, XPS, RPS, rings, channels, coalescing and halt polling as the configuration asks for',
  description:
    'With dryRun the plan alone. What is there before is kept until it is put back by a restore or a detach.',
  access: 'write',
  params: deviceParams,
  query: dryRunQuery,
  body: {
    schema: schemas.tuneRequest,
    optional: true,
    read: (bytes) => checkInput(tuneOutline, parseJson(bytes), 'The body is not valid') as TuneBody,
    example: { num_queues: 16, numa_node: -1 },
  },
  result: schemas.tuneResult,
  responses: { 200: { description: 'What was set, or would be.', schema: schemas.tuneResult } },
  errors: [...tuneErrors, 'conflict', 'invalid_config', ...bodyErrors],
  run: ({ controller, publish }, { params: { device }, query: { dryRun = false }, body }) => {
    const config = Object.keys(body).length === 0 ? {} : { config: parseDevice(device.name, body) };
    const result = tuneDevice(controller, device, { ...config, dryRun });
    if (!dryRun && result.settings.length > 0) {
      publish({ type: 'device.tuned', device: deviceText(device), data: { settings: result.settings.length } });
    }
    return { data: { ...result, device: deviceText(device), held: heldViews(result.held) } };
  },
});

export const restoreTuned = operation({
  id: 'restoreTuning',
  method: 'delete',
  path: '/api/v1/devices/{device}/tune',
  tag: 'tuning',
  summary: 'Put back what tuning changed',
  description: 'Settings that somebody else has changed since are told and left; `force` overwrites them too.',
  access: 'write',
  params: deviceParams,
  query: z.strictObject({ force: queryFlag }),
  body: null,
  result: schemas.restoreResult,
  responses: { 200: { description: 'What was put back.', schema: schemas.restoreResult } },
  errors: tuneErrors,
  run: ({ controller, publish }, { params: { device }, query: { force = false } }) => {
    const released = restoreTuning(controller, device, force);
    const { restored, foreign, failed } = released;
    const counts = { restored: restored.length, foreign: foreign.length, failed: failed.length };
    publish({ type: 'device.restored', device: deviceText(device), data: counts });
    return { data: { restored, foreign, failed, device: deviceText(device) } };
  },
});

export const tuneOperations = [getTuning, applyTuning, restoreTuned] as const;
