// SPDX-License-Identifier: Apache-2.0
/** Tuning a device: from what is recorded or asked for to a plan, and from the plan to the machine. */
import { type DeviceConfig, parseDevice } from '../../config/device.ts';
import { VnicError } from '../../errors.ts';
import { type DeviceId, deviceText } from '../../loader/pins.ts';
import { type AttachedFacts, planTuning, type TunePlan } from '../../tune/plan.ts';
import type { Controller } from '../controller.ts';
import { type DeviceRecord, recordConfig } from '../record.ts';
import type { Released, TuningStatus } from './device-tuning.ts';

export interface TuneRequest {
  /** Only for a device that is not attached. Absent: what is recorded, else nothing but defaults. */
  config?: DeviceConfig;
  dryRun?: boolean;
}

export interface TuneResult extends TunePlan, TuningStatus {
  readonly attached: boolean;
  readonly performed: boolean;
}

/**
 * Plans, and unless it is a dry run sets. Throws `not_found`, `conflict` (a configuration for an attached device),
 * `invalid_config`, `kernel_refused`, `not_permitted`; nothing is changed then.
 */
export function tuneDevice(
  controller: Controller,
  device: DeviceId,
  { config, dryRun = false }: TuneRequest,
): TuneResult {
  return controller.locked(() => {
    const { tuning } = controller;
    const isAttached = controller.isAttached(device);
    if (isAttached && config !== undefined) {
      throw new VnicError('conflict', `${deviceText(device)} is attached, and so has its configuration.`, {
        remedy: 'Tune it without one, or before it is attached.',
      });
    }
    const record = controller.records.read(device);
    const spec = config ?? (record === null ? parseDevice(device.name, {}) : recordConfig(record));
    const plan = planTuning(tuning.facts(device), {
      ...(spec.numQueues === undefined ? {} : { queues: spec.numQueues }),
      numaNode: spec.numaNode,
      numaAware: spec.enableNumaAware,
      coalesceUsecs: spec.coalesceUsecs,
      adaptive: spec.adaptiveCoalesce,
      attached: isAttached && record !== null ? attachedFacts(record) : null,
    });
    if (!dryRun) tuning.hold(device, 'tune', plan.settings);
    return { ...plan, ...tuning.status(device), attached: isAttached, performed: !dryRun };
  });
}

/** What is held of the device. Throws `not_found`, `state_damaged`. */
export function tuningStatus(controller: Controller, device: DeviceId): TuningStatus {
  checkExists(controller, device);
  return controller.tuning.status(device);
}

function checkExists(controller: Controller, device: DeviceId): void {
  if (controller.exists(device)) return;
  throw new VnicError('not_found', `There is no network device ${deviceText(device)}.`, {
    remedy: 'List the devices with: ip link (use --netns NAME for a device in a namespace)',
  });
}

/** What is tried beside a mode has the same settings as the mode. */
function attachedFacts({ settings, redirect }: DeviceRecord): AttachedFacts {
  return {
    queueCpus: settings.queueCpus,
    steersTx: settings.egress !== 'off',
    redirect: redirect?.trial ?? redirect?.mode ?? 'cpumap',
  };
}

/** Puts back what tuning changed. What attaching holds stays. */
export function restoreTuning(controller: Controller, device: DeviceId, force: boolean): Released {
  return controller.locked(() => {
    checkExists(controller, device);
    return controller.tuning.restore(device, ['tune'], force);
  });
}
