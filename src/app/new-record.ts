// SPDX-License-Identifier: Apache-2.0
/** The record of a device that is about to be attached. */
import { randomInt } from 'node:crypto';
import { release } from 'node:os';
import { formatDevice } from '../config/device.ts';
import type { DeviceId } from '../loader/pins.ts';
import { type AttachRequest, attachDefaults } from './attach-request.ts';
import type { DeviceModel } from './device-model.ts';
import { hasTcx } from './machine.ts';
import {
  type DataplaneSettings,
  type DeviceRecord,
  type EgressHook,
  RECORD_VERSION,
  type RecordDraft,
} from './record.ts';
import { objectSha256 } from './upgrade.ts';

export function newRecord(
  device: DeviceId,
  request: AttachRequest,
  model: DeviceModel,
  from: { mac: string; earlier: DeviceRecord | null },
): RecordDraft {
  const queueCpus = model.topology.queues.map((queue) => queue.cpu);
  const settings: DataplaneSettings = {
    mode: request.mode,
    egress: request.egress ?? defaultEgress(),
    queues: queueCpus.length,
    queueCpus,
    maxFlows: request.maxFlows ?? attachDefaults.maxFlows,
    maxRules: request.maxRules ?? attachDefaults.maxRules,
    hashSeed: randomInt(2 ** 32),
    deliverMetadata: request.deliverMetadata ?? false,
    cpuQueueSize: attachDefaults.cpuQueueSize,
  };
  return {
    version: RECORD_VERSION,
    device,
    mac: from.mac,
    settings,
    spec: formatDevice(model.config),
    failedAzs: from.earlier?.failedAzs ?? [],
    homeMoves: from.earlier?.homeMoves,
    lastRebalance: from.earlier?.lastRebalance,
    ruleGeneration: 0,
    configSha256: request.configSha256 ?? request.earlier?.configSha256 ?? null,
    objectSha256: objectSha256(),
    clsactMade: false,
  };
}

export function defaultEgress(): EgressHook {
  return hasTcx(release()) ? 'tcx' : 'clsact';
}
