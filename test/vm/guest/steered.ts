// SPDX-License-Identifier: Apache-2.0
/** The dataplane on the guest's device, as the suites attach it: three AZs share 32 queues. */
import type { AttachedDevice } from '../../../src/app/attached-device.ts';
import { openController } from '../../../src/app/environment.ts';
import { FlowMeter, type FlowOrder } from '../../../src/app/flow-meter.ts';
import { FlowTable } from '../../../src/app/flow-table.ts';
import { type FlowStatus, flowStatus, topFlows } from '../../../src/app/flows.ts';
import type { DeviceInput } from '../../../src/config/schema.ts';
import { peerAzs } from '../harness/protocol.ts';
import { nicName } from './nic.ts';

const AZ_QUEUES = ['0-10', '11-21', '22-31'] as const;

export const device = { name: nicName, netns: null };

/** A rule drops what arrives at this port. */
export const DROPPED_PORT = 4001;
/** A rule shapes what leaves from this port. */
export const SHAPED_PORT = 5001;
export const SHAPED_BITS_PER_SECOND = 400_000;
export const SHAPED_BURST_BYTES = 2000;

export const deviceSpec: DeviceInput = {
  azs: peerAzs.map(({ name, prefixes }, index) => ({ name, queues: AZ_QUEUES[index]!, prefixes: [...prefixes] })),
  rules: [
    { id: 9, match: { dstPort: DROPPED_PORT, proto: 'udp' }, action: 'drop' },
    {
      id: 11,
      direction: 'egress',
      match: { srcPort: SHAPED_PORT, proto: 'udp' },
      action: 'pass',
      limit: { rate: `${SHAPED_BITS_PER_SECOND / 1000}kbit`, burst: `${SHAPED_BURST_BYTES}b`, mode: 'shape' },
    },
  ],
};

export function withDevice<T>(action: (device: AttachedDevice) => T): T {
  return openController().withDevice(device, action);
}

/** The flows of the device as users see them, the largest first. */
export async function flowsOf(by: FlowOrder): Promise<FlowStatus[]> {
  using table = withDevice(({ dataplane }) => new FlowTable(dataplane));
  const found = await topFlows(table, 10_000, by, new FlowMeter());
  return withDevice((attached) => flowStatus(found, attached));
}
