// SPDX-License-Identifier: Apache-2.0
/** An attach from what is asked for to what would be done: refused here, before anything is touched, or planned whole. */
import { validateAzs } from '../config/azs.ts';
import { type DeviceConfig, parseDevice } from '../config/device.ts';
import type { Native } from '../loader/ffi/index.ts';
import { inNetns } from '../loader/netns.ts';
import { type DeviceId, deviceText, type PinFolder } from '../loader/pins.ts';
import { diagnose, refuseIfBlocked } from '../loader/preflight/index.ts';
import { rxQueuesOf } from '../loader/preflight/rules/queues.ts';
import { VnicLimits } from '../maps/generated/abi.ts';
import { chooseRedirect } from '../steering/redirect.ts';
import { validateRules } from '../steering/rules/validate.ts';
import { type AttachAction, type AttachInput, planAttach } from './attach.ts';
import { type AttachRequest, type AttachResult, attachDefaults } from './attach-request.ts';
import { DeviceModel } from './device-model.ts';
import { deviceShape } from './machine.ts';
import { newRecord } from './new-record.ts';
import { type RecordStore, recordConfig } from './record.ts';
import { factsOf, redirectFacts } from './redirect-facts.ts';
import type { DeviceTuning } from './tuning/device-tuning.ts';

export interface AttachPlanPorts {
  native: Native;
  records: RecordStore;
  tuning: DeviceTuning;
  pins: PinFolder;
}

export interface AttachPlan {
  input: AttachInput;
  actions: AttachAction[];
  /** As it is once the actions are performed, where they are. */
  result: AttachResult;
}

/** Changes nothing. Throws what preflight refuses, and what is wrong with rules or AZs. */
export function prepareAttach(
  { native, records, tuning, pins }: AttachPlanPorts,
  device: DeviceId,
  request: AttachRequest,
): AttachPlan {
  const earlier = request.config === undefined ? (request.earlier ?? records.read(device)) : null;
  const given = request.config ?? (earlier === null ? parseDevice(device.name, {}) : recordConfig(earlier));
  const config: DeviceConfig = {
    ...given,
    ...(request.queues === undefined ? {} : { numQueues: request.queues }),
    ...(request.redirect === undefined ? {} : { redirect: request.redirect }),
  };
  const asked = config.numQueues;
  const facts = factsOf(native, device);
  const findings = diagnose(facts, { mode: request.mode, ...(asked === undefined ? {} : { queues: asked }) });
  refuseIfBlocked(findings);
  const shape = inNetns(native, device.netns, () => deviceShape(device.name));
  const inUse = facts.link === null ? shape.rxQueues : rxQueuesOf(facts.link);
  const queues = asked ?? Math.min(inUse, VnicLimits.maxQueues);
  validateAzs(config.azs, queues);
  validateRules(config.rules, { queues, maxRules: request.maxRules ?? attachDefaults.maxRules });
  const model = DeviceModel.plan(config, queues, tuning.cpusFor(device, config));
  const draft = newRecord(device, request, model, { mac: shape.mac, earlier });
  const redirect = chooseRedirect(config.redirect, redirectFacts(native, facts, draft));
  const record = { ...draft, redirect: { ...redirect, since: new Date().toISOString() } };
  const input = { record, model, ifindex: shape.ifindex };
  const actions = planAttach(input, pins.path);
  return {
    input,
    actions,
    result: {
      device: deviceText(device),
      mode: request.mode,
      egress: record.settings.egress,
      queues,
      redirect,
      azs: config.azs.length,
      rules: config.rules.length,
      source: request.config !== undefined ? 'config' : earlier === null ? 'defaults' : 'record',
      actions,
      findings,
      performed: request.dryRun !== true,
    },
  };
}
