// SPDX-License-Identifier: Apache-2.0
/** The dataplane on the guest's device, as the suites attach it: three AZs share 32 queues. */
import assert from 'node:assert/strict';
import type { AttachedDevice } from '../../../src/app/attached-device.ts';
import { Controller } from '../../../src/app/controller.ts';
import { parseDevice } from '../../../src/config/device.ts';
import type { Native } from '../../../src/loader/ffi/index.ts';
import type { RuleInput } from '../../../src/steering/rules/schema.ts';
import { peerAzs } from '../harness/protocol.ts';
import { nicName } from './nic.ts';

const AZ_QUEUES = ['0-10', '11-21', '22-31'];

export const device = { name: nicName, netns: null };

export function controllerOf(native: Native): Controller {
  return new Controller({ native, stateFolder: '/run/vnic-state', runFolder: '/run/vnic' });
}

export function attach(native: Native, rules: readonly RuleInput[]): void {
  const config = parseDevice(nicName, {
    azs: peerAzs.map(({ name, prefixes }, index) => ({ name, queues: AZ_QUEUES[index], prefixes })),
    rules,
  });
  const { performed } = controllerOf(native).attach(device, { config, mode: 'native' });
  assert.ok(performed);
}

export function withDevice<T>(native: Native, action: (device: AttachedDevice) => T): T {
  return controllerOf(native).withDevice(device, action);
}
