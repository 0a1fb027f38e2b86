// SPDX-License-Identifier: Apache-2.0
/** Devices: attach, detach, look at, mend. */
import { z } from 'zod';
import { describeAction } from '../../app/attach.ts';
import { type DeviceConfig, isDeviceName, parseDevice } from '../../config/device.ts';
import { formatWholeFailover } from '../../config/failover.ts';
import { VnicError } from '../../errors.ts';
import { deviceText } from '../../loader/pins.ts';
import { refuseIfBlocked, verdict } from '../../loader/preflight/index.ts';
import { VnicLimits } from '../../maps/generated/abi.ts';
import { redirectSettings } from '../../steering/redirect.ts';
import { checkInput, dryRunQuery, parseJson, queryFlag, queryNumber } from '../bodies.ts';
import { deviceParams, parseDeviceId } from '../device-param.ts';
import { operation } from '../operation.ts';
import * as schemas from '../schemas.ts';
import { azViews } from '../views.ts';
import { deviceErrors } from './error-sets.ts';

export const listDevices = operation({
  id: 'listDevices',
  method: 'get',
  path: '/api/v1/devices',
  tag: 'devices',
  summary: 'Devices that are attached, or will be when they come back',
  access: 'read',
  params: z.strictObject({}),
  query: z.strictObject({}),
  body: null,
  result: schemas.page(schemas.deviceSummary),
  responses: { 200: { description: 'All devices.', schema: schemas.page(schemas.deviceSummary) } },
  errors: [],
  run: ({ controller }) => ({
    data: {
      items: controller.summaries().map(({ device, state, error }) => ({
        device: deviceText(device),
        ...device,
        state,
        problem: error === null ? null : (error.toProblem() as z.output<typeof schemas.problem>),
      })),
      next: null,
    },
  }),
});

/** AZs and rules are read one by one later, so that every problem is found. */
const attachOutline = schemas.attachRequest.extend({
  azs: z.array(z.unknown(), 'a list of AZs').optional(),
  rules: z.array(z.unknown(), 'a list of rules').optional(),
});

type AttachBody = z.output<typeof schemas.attachRequest>;

/** How to attach; the other fields are the device's configuration. */
const attachFields = new Set(['name', 'netns', 'mode', 'egress', 'maxFlows', 'maxRules', 'deliverMetadata']);

/** Undefined where no field of the device's configuration is given. */
function configOf(body: AttachBody): DeviceConfig | undefined {
  const config = Object.entries(body).filter(([field]) => !attachFields.has(field));
  return config.length === 0 ? undefined : parseDevice(body.name, Object.fromEntries(config));
}

export const attachDevice = operation({
  id: 'attachDevice',
  method: 'post',
  path: '/api/v1/devices',
  tag: 'devices',
  summary: 'Attach a device',
  access: 'write',
  params: z.strictObject({}),
  query: z.strictObject({
    dryRun: queryFlag,
    queues: queryNumber(1, VnicLimits.maxQueues).meta({ description: 'overrides num_queues, also the recorded one' }),
    redirect: z
      .enum(redirectSettings, redirectSettings.join(', '))
      .optional()
      .meta({ description: 'overrides redirect, also the recorded one' }),
  }),
  body: {
    schema: schemas.attachRequest,
    read: (bytes) => checkInput(attachOutline, parseJson(bytes), 'The body is not valid') as AttachBody,
    example: { name: 'eth0', azs: [{ name: 'az-a', queues: '0-15', prefixes: ['10.1.0.0/16'] }] },
  },
  result: schemas.attachResult,
  responses: {
    201: { description: 'Attached.', schema: schemas.attachResult },
    200: { description: 'A dry run: what attaching would do.', schema: schemas.attachResult },
  },
  errors: [
    'not_found',
    'conflict',
    'preflight_refused',
    'policy_refused',
    'invalid_config',
    'invalid_rule',
    'too_many_shapes',
    'capacity_exceeded',
    'unsupported_media_type',
    'too_large',
    'verifier_rejected',
    'kernel_refused',
    'state_damaged',
    'abi_mismatch',
  ],
  run: ({ controller, publish }, { query: { dryRun = false, queues, redirect }, body }) => {
    const device = parseDeviceId(deviceText({ name: body.name, netns: body.netns ?? null }));
    if (device === null || !isDeviceName(body.name)) {
      throw new VnicError('usage', `${JSON.stringify(body.name)} is not a device name.`, {
        remedy: 'Give the name that "ip link" shows, and the namespace as netns.',
      });
    }
    const config = configOf(body);
    const { mode = 'native', egress, maxFlows, maxRules, deliverMetadata } = body;
    const result = controller.attach(device, {
      mode,
      dryRun,
      ...(config === undefined ? {} : { config }),
      ...(queues === undefined ? {} : { queues }),
      ...(redirect === undefined ? {} : { redirect }),
      ...(egress === undefined ? {} : { egress }),
      ...(maxFlows === undefined ? {} : { maxFlows }),
      ...(maxRules === undefined ? {} : { maxRules }),
      ...(deliverMetadata === undefined ? {} : { deliverMetadata }),
    });
    const actions = result.actions.map((action) => ({ ...action, text: describeAction(action) }));
    const data = { ...result, actions, findings: [...result.findings] };
    if (dryRun) return { status: 200, data };
    const { queues: count, rules, azs } = result;
    publish({ type: 'device.attached', device: result.device, data: { mode, queues: count, rules, azs } });
    return { status: 201, data, headers: { location: `/api/v1/devices/${encodeURIComponent(result.device)}` } };
  },
});

export const getDevice = operation({
  id: 'getDevice',
  method: 'get',
  path: '/api/v1/devices/{device}',
  tag: 'devices',
  summary: 'What a device does, its counters, and where it differs from what was asked for',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({}),
  body: null,
  result: schemas.deviceStatus,
  responses: { 200: { description: 'The status.', schema: schemas.deviceStatus } },
  errors: deviceErrors,
  run: ({ controller }, { params: { device } }) =>
    controller.readDevice(device, (attached) => {
      const status = attached.status();
      const failover = formatWholeFailover(attached.config.failover);
      return { data: { ...status, azs: azViews(attached), failover } };
    }),
});

export const detachDevice = operation({
  id: 'detachDevice',
  method: 'delete',
  path: '/api/v1/devices/{device}',
  tag: 'devices',
  summary: 'Detach a device and put back what attaching and tuning changed',
  description:
    'Its rules and AZs are forgotten. `force` also removes pins that this version cannot read, and overwrites settings that somebody else has changed since.',
  access: 'write',
  params: deviceParams,
  query: z.strictObject({ dryRun: queryFlag, force: queryFlag }),
  body: null,
  result: schemas.detachResult,
  responses: { 200: { description: 'Detached, or what a detach would remove.', schema: schemas.detachResult } },
  errors: [...deviceErrors, 'kernel_refused'],
  run: ({ controller, publish }, { params: { device }, query: { dryRun = false, force } }) => {
    const pins = controller.describeDetach(device);
    if (dryRun) return { data: { device: deviceText(device), detached: false, pins, settings: null } };
    const { restored, foreign, failed } = controller.detach(device, force);
    publish({ type: 'device.detached', device: deviceText(device), data: {} });
    return { data: { device: deviceText(device), detached: true, pins, settings: { restored, foreign, failed } } };
  },
});

export const diagnoseDevice = operation({
  id: 'diagnoseDevice',
  method: 'get',
  path: '/api/v1/devices/{device}/doctor',
  tag: 'devices',
  summary: 'What would block or degrade attaching, and who must change it',
  access: 'read',
  params: deviceParams,
  query: z.strictObject({
    mode: z.enum(['native', 'generic'], 'native or generic').optional(),
    queues: queryNumber(1, VnicLimits.maxQueues),
  }),
  body: null,
  result: schemas.diagnosis,
  responses: { 200: { description: 'The findings.', schema: schemas.diagnosis } },
  errors: ['not_found'],
  needsNoRights: true,
  run: ({ controller }, { params: { device }, query: { mode = 'native', queues } }) => {
    const { findings, redirect } = controller.doctor(device, { mode, ...(queues === undefined ? {} : { queues }) });
    if (findings.some(({ code }) => code === 'device_missing')) refuseIfBlocked(findings);
    return { data: { device: deviceText(device), mode, verdict: verdict(findings), findings, redirect } };
  },
});

export const mendDevice = operation({
  id: 'mendDevice',
  method: 'post',
  path: '/api/v1/devices/{device}/apply',
  tag: 'devices',
  summary: 'Bring the kernel to what was asked for, where it drifted',
  access: 'write',
  params: deviceParams,
  query: dryRunQuery,
  body: null,
  result: schemas.mendResult,
  responses: { 200: { description: 'The drift that was found, and what was done.', schema: schemas.mendResult } },
  errors: [...deviceErrors, 'kernel_refused', 'verifier_rejected', 'preflight_refused'],
  run: ({ controller, publish }, { params: { device }, query: { dryRun = false } }) => {
    const result = controller.mend(device, dryRun);
    if (!dryRun && result.actions.length > 0) {
      publish({ type: 'device.mended', device: deviceText(device), data: { actions: result.actions } });
    }
    return { data: { device: deviceText(device), performed: !dryRun, ...result } };
  },
});

export const deviceOperations = [
  listDevices,
  attachDevice,
  getDevice,
  detachDevice,
  diagnoseDevice,
  mendDevice,
] as const;
