// SPDX-License-Identifier: Apache-2.0
/** What a fleet's node acts on: its own devices. */
import type { DevicePolicy } from '../core/policy.ts';
import type { ObservedDevice } from '../core/reconcile.ts';

export interface DeviceView extends ObservedDevice {
  /** Since it was attached. */
  packets: number;
  dropped: number;
}

/** All but look() reject with the error of the operation; nothing is half done then. */
export interface NodeDevices {
  /** Attached devices of the node's own network namespace. */
  look(): Promise<DeviceView[]>;
  /** AZs and rules as they are. */
  read(device: string): Promise<DevicePolicy>;
  /** Checks everything, changes nothing. */
  check(device: string, policy: DevicePolicy): Promise<void>;
  /** In one transaction. @returns the device's new tag */
  replace(device: string, policy: DevicePolicy): Promise<string>;
  /** Does nothing if it is failed by the fleet already. */
  fail(device: string, az: string, options: { evidence: string; force: boolean }): Promise<void>;
  /** Does nothing if it is up. */
  recover(device: string, az: string): Promise<void>;
}

export interface FleetEvent {
  type: string;
  device: string | null;
  data: Record<string, unknown>;
}
