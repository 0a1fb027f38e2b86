// SPDX-License-Identifier: Apache-2.0
/** Detaching, after whatever the suites before have done with the device. */
import assert from 'node:assert/strict';
import { openController } from '../../../src/app/environment.ts';
import { programById, programInfo } from '../../../src/loader/program.ts';
import type { Suite } from './checks.ts';
import { vnicctl } from './command.ts';
import { attachedXdp, nicName, qdiscs } from './nic.ts';
import { device, withDevice } from './steered.ts';
import { eventually, makeFlows, Receiver } from './traffic.ts';

const PORT = 6000;
const PACKETS = 5;

export const suite: Suite = {
  title: 'detaching from virtio_net',
  machines: ['standard'],
  short: ['standard'],
  checks: [
    {
      title: 'no XDP program, no clsact qdisc, no pin and no loaded program is left',
      async run({ native }) {
        const names = ['vnic_root', 'vnic_ingress', 'vnic_cpu', 'vnic_egress'] as const;
        const ids = withDevice(({ dataplane }) => names.map((name) => programInfo(native, dataplane.program(name)).id));
        const qdiscsBefore = qdiscs();
        await vnicctl('detach', nicName);
        assert.equal(attachedXdp(), null);
        assert.deepEqual(
          qdiscs(),
          qdiscsBefore.filter((kind) => kind !== 'clsact'),
        );
        const controller = openController();
        assert.deepEqual(controller.devices(), []);
        assert.ok(!controller.pins(device).exists());
        const left = () =>
          ids.filter((id) => {
            using program = programById(native, id);
            return program !== null;
          });
        // The kernel frees programs after a grace period.
        await eventually(() => left().length === 0);
        assert.deepEqual(left(), []);
      },
    },
    {
      title: 'packets reach their sockets as before',
      async run({ ask }) {
        const flows = makeFlows(2, PORT);
        using receiver = await Receiver.open(PORT);
        await ask({ do: 'open', endpoints: flows.map(({ from }) => from), echo: false });
        await ask({ do: 'send', flows, packets: PACKETS, payloadBytes: 64 });
        await receiver.expect(flows, PACKETS);
      },
    },
  ],
};
