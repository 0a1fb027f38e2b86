// SPDX-License-Identifier: Apache-2.0
/** Performs a plan on a node's devices. A policy for several devices is put into effect on all of them, or on none. */
import type { DevicePolicy } from '../core/policy.ts';
import type { AzAction, PolicyPlan } from '../core/reconcile.ts';
import { type FleetProblem, problemOf } from '../core/values.ts';
import type { NodeDevices } from './ports.ts';

/** @returns the devices' new tags. Throws what kept it from that; devices are as they were then. */
export async function performReplacements(
  devices: NodeDevices,
  plan: PolicyPlan['replace'],
): Promise<Map<string, string>> {
  const tags = new Map<string, string>();
  if (plan.length > 1) for (const { device, policy } of plan) await devices.check(device, policy);
  const undo: { device: string; before: DevicePolicy }[] = [];
  try {
    for (const { device, policy } of plan) {
      if (plan.length > 1) undo.push({ device, before: await devices.read(device) });
      tags.set(device, await devices.replace(device, policy));
    }
  } catch (error) {
    // The last one failed, and is as it was.
    for (const { device, before } of undo.slice(0, -1).reverse()) await devices.replace(device, before);
    throw error;
  }
  return tags;
}

/** One AZ that cannot be failed keeps no other from it. */
export async function performAzActions(devices: NodeDevices, plan: readonly AzAction[]): Promise<FleetProblem[]> {
  const problems: FleetProblem[] = [];
  for (const action of plan) {
    const { device, az } = action;
    try {
      if (action.kind === 'recover') await devices.recover(device, az);
      else await devices.fail(device, az, { evidence: evidenceOf(action), force: action.declaration.force });
    } catch (error) {
      problems.push(problemOf(error));
    }
  }
  return problems;
}

function evidenceOf({ declaration: { by, who, reason } }: AzAction & { kind: 'fail' }): string {
  return by === 'operator' ? `declared down by ${who}${reason === '' ? '' : `: ${reason}`}` : reason;
}
