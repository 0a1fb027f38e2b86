// SPDX-License-Identifier: Apache-2.0
/** Availability zones: their queues, failure and recovery. */
import { z } from 'zod';
import type { AttachedDevice } from '../../app/attached-device.ts';
import type { AzChange } from '../../app/device-status.ts';
import { parseAz } from '../../config/azs.ts';
import { VnicError } from '../../errors.ts';
import { type DeviceId, deviceText } from '../../loader/pins.ts';
import type { PlanResult } from '../../steering/planner.ts';
import { dryRunQuery, parseJson, withField } from '../bodies.ts';
import { deviceParam, deviceParams } from '../device-param.ts';
import { type ApiContext, operation } from '../operation.ts';
import * as schemas from '../schemas.ts';
import { azViews, moveCounts } from '../views.ts';
import { bodyErrors, deviceErrors } from './error-sets.ts';

const azParams = z.strictObject({
  device: deviceParam,
  az: z.string().min(1).max(63).meta({ description: 'name of the AZ' }),
});

const exampleAz = { queues: '0-10', weight: 1, prefixes: ['10.1.0.0/16'] };
const writeErrors = [...deviceErrors, 'invalid_config', ...bodyErrors] as const;

export const listAzs = operation({
  id: 'listAzs',
  method: 'get',
  path: '/api/v1/devices/{device}/azs',
  tag: 'azs',
  summary: 'AZs with their state',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({}),
  body: null,
  result: schemas.page(schemas.azStatus),
  responses: { 200: { description: 'All AZs of the device.', schema: schemas.page(schemas.azStatus) } },
  errors: deviceErrors,
  run: ({ controller }, { params }) =>
    controller.readDevice(params.device, (attached) => ({ data: { items: azViews(attached), next: null } })),
});

export const getAz = operation({
  id: 'getAz',
  method: 'get',
  path: '/api/v1/devices/{device}/azs/{az}',
  tag: 'azs',
  summary: 'One AZ with its state',
  access: 'read',
  params: azParams,
  query: z.strictObject({}),
  body: null,
  result: schemas.azStatus,
  responses: { 200: { description: 'The AZ.', schema: schemas.azStatus } },
  errors: deviceErrors,
  run: ({ controller }, { params }) =>
    controller.readDevice(params.device, (attached) => {
      const { name } = attached.azNamed(params.az);
      return { data: azViews(attached).find((az) => az.name === name)! };
    }),
});

interface AzOperation {
  device: DeviceId;
  /** Name of the AZ; null: all of them. */
  az: string | null;
  dryRun: boolean | undefined;
  plan: (device: AttachedDevice) => PlanResult;
  perform: (device: AttachedDevice) => AzChange;
  /** `failed`, `recovered`… */
  done: string;
  /** Of a failure or recovery, told with it. */
  cause?: 'manual' | 'fleet';
}

function changeAz(context: ApiContext, { device, az, dryRun = false, plan, perform, done, cause }: AzOperation) {
  return context.controller.withDevice(device, (attached) => {
    const result: { plan: PlanResult; commitNs: number | null } = dryRun
      ? { plan: plan(attached), commitNs: null }
      : perform(attached);
    const report = {
      device: deviceText(device),
      az: az ?? '*',
      performed: !dryRun,
      ...moveCounts(result.plan.summary),
      commitNs: result.commitNs,
    };
    if (!dryRun) {
      const { moved, collateral, commitNs } = report;
      context.publish({
        type: `az.${done}`,
        device: deviceText(device),
        data: { az: report.az, ...(cause === undefined ? {} : { cause }), moved, collateral, commitNs },
      });
    }
    return { data: report };
  });
}

export const putAz = operation({
  id: 'putAz',
  method: 'put',
  path: '/api/v1/devices/{device}/azs/{az}',
  tag: 'azs',
  summary: 'Make an AZ, or replace it as a whole',
  description: 'The name may be left out of the body. Buckets move where queues or weights ask for it.',
  access: 'write',
  params: azParams,
  query: dryRunQuery,
  body: {
    schema: schemas.azBody,
    read: (bytes) => parseJson(bytes) as z.output<typeof schemas.azBody>,
    example: exampleAz,
  },
  result: schemas.azChange,
  responses: { 200: { description: 'What moved, or would move.', schema: schemas.azChange } },
  errors: writeErrors,
  run: (context, { params: { device, az: name }, query: { dryRun }, body }) => {
    const az = parseAz(withField(body, 'name', name));
    if (az.name !== name) {
      throw new VnicError('usage', `The body has the name ${az.name}, the path ${name}.`, {
        remedy: 'Make them the same.',
      });
    }
    return changeAz(context, {
      device,
      az: name,
      dryRun,
      plan: (attached) => attached.spec.planSet(az),
      perform: (attached) => attached.spec.setAz(az),
      done: 'set',
    });
  },
});

export const replaceAzs = operation({
  id: 'replaceAzs',
  method: 'put',
  path: '/api/v1/devices/{device}/azs',
  tag: 'azs',
  summary: 'Replace all AZs',
  description: 'AZs that keep their name keep their state.',
  access: 'write',
  params: deviceParams,
  query: dryRunQuery,
  body: {
    schema: z.array(schemas.az),
    read: (bytes) => {
      const value = parseJson(bytes);
      if (Array.isArray(value)) return value as z.output<typeof schemas.az>[];
      throw new VnicError('usage', 'The body is not a list of AZs.', { remedy: 'Send [{"name":"az-a",…},…].' });
    },
    example: [{ name: 'az-a', ...exampleAz }],
  },
  result: schemas.azChange,
  responses: { 200: { description: 'What moved, or would move; `az` is `*`.', schema: schemas.azChange } },
  errors: writeErrors,
  run: (context, { params: { device }, query: { dryRun }, body }) => {
    const azs = body.map((az) => parseAz(az));
    return changeAz(context, {
      device,
      az: null,
      dryRun,
      plan: (attached) => attached.spec.planReplacement(azs),
      perform: (attached) => attached.spec.replaceAzs(azs),
      done: 'set',
    });
  },
});

export const deleteAz = operation({
  id: 'deleteAz',
  method: 'delete',
  path: '/api/v1/devices/{device}/azs/{az}',
  tag: 'azs',
  summary: 'Delete an AZ; its queues stay in use',
  access: 'write',
  params: azParams,
  query: dryRunQuery,
  body: null,
  result: schemas.azChange,
  responses: { 200: { description: 'What moved, or would move.', schema: schemas.azChange } },
  errors: deviceErrors,
  run: (context, { params: { device, az }, query: { dryRun } }) =>
    changeAz(context, {
      device,
      az,
      dryRun,
      plan: (attached) => attached.spec.planDeletion(az),
      perform: (attached) => attached.spec.deleteAz(az),
      done: 'deleted',
    }),
});

const failRequest = z
  .strictObject({
    force: z.boolean('true or false').optional().meta({ description: 'also when few queues would be left' }),
    cause: z.enum(['manual', 'fleet'], 'manual or fleet').optional().meta({
      description:
        'who asks for it; `fleet` takes over an AZ that is failed already, so that no detector takes it back',
    }),
    evidence: z.string('a text').max(2000).optional().meta({ description: 'why, for whoever looks' }),
  })
  .meta({ id: 'FailRequest' });

export const failAz = operation({
  id: 'failAz',
  method: 'post',
  path: '/api/v1/devices/{device}/azs/{az}/fail',
  tag: 'azs',
  summary: "Take an AZ's queues out of use; exactly its buckets move",
  access: 'write',
  params: azParams,
  query: dryRunQuery,
  body: { schema: failRequest, optional: true, example: { force: false } },
  result: schemas.azChange,
  responses: { 200: { description: 'What moved, or would move.', schema: schemas.azChange } },
  errors: [...deviceErrors, 'policy_refused', 'conflict', ...bodyErrors],
  run: (context, { params: { device, az }, query: { dryRun }, body: { force = false, cause = 'manual', evidence } }) =>
    changeAz(context, {
      device,
      az,
      dryRun,
      plan: (attached) => attached.planFailure(az, force),
      perform: (attached) => attached.failAz(az, { force, cause, ...(evidence === undefined ? {} : { evidence }) }),
      done: 'failed',
      cause,
    }),
});

export const recoverAz = operation({
  id: 'recoverAz',
  method: 'post',
  path: '/api/v1/devices/{device}/azs/{az}/recover',
  tag: 'azs',
  summary: "Take an AZ's queues into use again",
  access: 'write',
  params: azParams,
  query: dryRunQuery,
  body: null,
  result: schemas.azChange,
  responses: { 200: { description: 'What moved, or would move.', schema: schemas.azChange } },
  errors: [...deviceErrors, 'conflict'],
  run: (context, { params: { device, az }, query: { dryRun } }) =>
    changeAz(context, {
      device,
      az,
      dryRun,
      plan: (attached) => attached.planRecovery(az),
      perform: (attached) => attached.recoverAz(az),
      done: 'recovered',
      cause: 'manual',
    }),
});

export const azOperations = [listAzs, replaceAzs, getAz, putAz, deleteAz, failAz, recoverAz] as const;
