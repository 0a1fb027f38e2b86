// SPDX-License-Identifier: Apache-2.0
/** What is measured of a node of a fleet, and its metrics. A machine that belongs to no fleet has none of them. */
import { PREFIX } from './declare.ts';
import { noLabels } from './labels.ts';
import type { DaemonMetric } from './metric.ts';

export interface FleetSample {
  connected: boolean;
  /** Null: no policy was ever seen. */
  specRevision: number | null;
  appliedRevision: number | null;
  canary: boolean;
  /** Devices that differ from the policy in effect. */
  drift: number;
  problems: number;
  /** Null: never. */
  lastSyncAgeSeconds: number | null;
}

function fleetGauge(
  name: string,
  help: string,
  value: (sample: FleetSample) => number | null,
  unit: DaemonMetric['unit'] = null,
): DaemonMetric {
  return {
    name: `${PREFIX}fleet_${name}`,
    type: 'gauge',
    unit,
    labels: [],
    help,
    series: ({ machine: { fleet } }) => {
      const number = fleet === null ? null : value(fleet);
      return number === null ? [] : [{ labels: noLabels, value: number }];
    },
  };
}

export const fleetMetrics: readonly DaemonMetric[] = [
  fleetGauge('connected', '1 while a member of etcd is listened to.', ({ connected }) => Number(connected)),
  fleetGauge('spec_revision', 'The policy that is meant for this node.', ({ specRevision }) => specRevision),
  fleetGauge(
    'applied_revision',
    'The policy that is in effect on this node.',
    ({ appliedRevision }) => appliedRevision,
  ),
  fleetGauge('canary', '1 while the policy in effect is on trial.', ({ canary }) => Number(canary)),
  fleetGauge('drift', 'Devices that differ from the policy in effect.', ({ drift }) => drift),
  fleetGauge('problems', 'What keeps this node from what the fleet asks for.', ({ problems }) => problems),
  fleetGauge(
    'last_sync_age_seconds',
    'Time since etcd was heard of.',
    ({ lastSyncAgeSeconds }) => lastSyncAgeSeconds,
    'seconds',
  ),
];
