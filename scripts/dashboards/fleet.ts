// SPDX-License-Identifier: Apache-2.0
import { makeDashboard } from './make.ts';
import { lines, number, ofDaemon, states } from './panels.ts';

const NO_FLEET = 'no node of a fleet';

export const fleet = () =>
  makeDashboard({
    name: 'fleet',
    title: 'Fleet',
    description: 'Whether the nodes of a fleet hear of it, and have the policy that is meant for them.',
    rows: [
      {
        title: 'Now',
        panels: [
          number({
            title: 'Nodes that hear of the fleet',
            description: 'Of those that are scraped: a member of etcd is listened to.',
            queries: [{ expr: `sum(${ofDaemon('virtio_nic_fleet_connected')})`, legend: 'connected' }],
            noValue: NO_FLEET,
            decimals: 0,
            width: 6,
          }),
          number({
            title: 'Nodes without their policy',
            description: 'The revision that is in effect on them is not the one that is meant for them.',
            queries: [
              {
                expr: `sum(${ofDaemon('virtio_nic_fleet_spec_revision')} != bool ${ofDaemon('virtio_nic_fleet_applied_revision')})`,
                legend: 'behind',
              },
            ],
            noValue: 'no policy was ever seen',
            decimals: 0,
            thresholds: [{ from: 1, color: 'orange' }],
            width: 6,
          }),
          number({
            title: 'Nodes on trial',
            description: 'The policy in effect on them is tried on a share of the nodes.',
            queries: [{ expr: `sum(${ofDaemon('virtio_nic_fleet_canary')})`, legend: 'on trial' }],
            noValue: NO_FLEET,
            decimals: 0,
            width: 6,
          }),
          number({
            title: 'Devices changed by hand',
            description: 'They differ from the policy in effect.',
            queries: [{ expr: `sum(${ofDaemon('virtio_nic_fleet_drift')})`, legend: 'devices' }],
            noValue: NO_FLEET,
            decimals: 0,
            thresholds: [{ from: 1, color: 'orange' }],
            width: 6,
          }),
        ],
      },
      {
        title: 'Nodes',
        panels: [
          states({
            title: 'Connection',
            description: 'Whether the node hears of the fleet. Without, it goes on with what it has.',
            queries: [{ expr: ofDaemon('virtio_nic_fleet_connected'), legend: '{{instance}}' }],
            texts: { up: 'connected', down: 'alone' },
            noValue: NO_FLEET,
            width: 12,
          }),
          lines({
            title: 'Time since etcd was heard of',
            description: 'By node.',
            queries: [{ expr: ofDaemon('virtio_nic_fleet_last_sync_age_seconds'), legend: '{{instance}}' }],
            unit: 's',
            noValue: NO_FLEET,
            width: 12,
          }),
          lines({
            title: 'Revision of the policy',
            description: 'What is meant for each node, and what is in effect on it.',
            queries: [
              { expr: ofDaemon('virtio_nic_fleet_spec_revision'), legend: '{{instance}} meant' },
              { expr: ofDaemon('virtio_nic_fleet_applied_revision'), legend: '{{instance}} in effect' },
            ],
            decimals: 0,
            noValue: 'no policy was ever seen',
            width: 12,
          }),
          lines({
            title: 'What keeps nodes from it',
            description: 'What was refused or could not be put into effect; vnicctl fleet status says why.',
            queries: [{ expr: ofDaemon('virtio_nic_fleet_problems'), legend: '{{instance}}' }],
            decimals: 0,
            noValue: NO_FLEET,
            width: 12,
          }),
        ],
      },
    ],
  });
