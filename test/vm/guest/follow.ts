// SPDX-License-Identifier: Apache-2.0
/** Redirect mode `follow` on virtio_net behind a multiqueue tap: tried, begun, forgotten by the host, learned again. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SettingName } from '../../../src/loader/settings/setting.ts';
import type { Guest, Suite } from './checks.ts';
import { vnicctl } from './command.ts';
import { grown, nicName, setCombined } from './nic.ts';
import { attach, countsOf, detach, readSettings, redirectStatus, sumOf } from './redirect-parts.ts';
import { withDevice } from './steered.ts';
import { makeFlows, Receiver } from './traffic.ts';

const PORT = 8000;
const PACKETS = 12;
const PAUSE_MS = 40;
/** The tap forgets a flow after 3 s without a packet of the guest's (TUN_FLOW_EXPIRE, drivers/net/tun.c). */
const FORGOTTEN_MS = 4500;
const KEPT_ALIVE_MS = 1500;

const flows = makeFlows(4, PORT);
const total = flows.length * PACKETS;
const xps: SettingName[] = Array.from({ length: 32 }, (_, tx): SettingName => `tx-${tx}/xps_cpus`);
let xpsBefore: Record<string, string | null> = {};

const fields = ['directPackets', 'missedPackets', 'offCpuPackets'] as const;

/** Each flow goes out and comes back, in order; gives how its packets came to their queue. */
async function converse({ ask }: Guest): Promise<{ direct: number; missed: number; offCpu: number }> {
  using receiver = await Receiver.open(PORT);
  await ask({ do: 'open', endpoints: flows.map(({ from }) => from), echo: true });
  const before = fields.map(countsOf);
  await receiver.send(flows, PACKETS, 64, PAUSE_MS);
  await receiver.expect(flows, PACKETS);
  const [direct, missed, offCpu] = fields.map((field, index) => sumOf(grown(before[index]!, countsOf(field))));
  return { direct: direct!, missed: missed!, offCpu: offCpu! };
}

export const suite: Suite = {
  title: 'redirect mode follow on virtio_net',
  machines: ['standard'],
  short: ['standard'],
  checks: [
    {
      title: 'attaching takes XPS out of the way and tries whether the tap follows, while every packet is handed on',
      async run(guest) {
        // The driver sets XPS with every change of the number of queues; suites before this one have cleared it.
        const { queues } = guest.machine.nics[0]!;
        for (const count of [queues - 1, queues]) setCombined(count);
        xpsBefore = readSettings(guest, xps);
        assert.ok(
          Object.values(xpsBefore).some((cpus) => cpus !== ''),
          'the driver has set XPS',
        );
        const { redirect } = await vnicctl<{ redirect: { mode: string; trial: string } }>('doctor', nicName);
        assert.deepEqual([redirect.mode, redirect.trial], ['cpumap', 'follow']);
        await attach(['--redirect', 'auto']);
        assert.deepEqual(new Set(Object.values(readSettings(guest, xps))), new Set(['']));
        const { direct, missed } = await converse(guest);
        assert.equal(direct, 0);
        assert.ok(missed <= 0.05 * total, `${missed} of ${total} packets arrived elsewhere`);
      },
    },
    {
      title: 'it begins when flows show that the tap does, and then packets are passed where they arrive, in order',
      async run(guest) {
        const { device } = await redirectStatus();
        assert.equal(device?.verdict, 'obeys', JSON.stringify(device));
        const { actions } = await vnicctl<{ actions: string[] }>('apply', nicName);
        assert.match(actions.join(), /begin with what is on trial/);
        assert.equal((await redirectStatus()).mode, 'follow');
        // The driver leaves interrupts where it likes: what arrives on another CPU than the queue's is handed on.
        await vnicctl('tune', nicName, '--apply');
        const { direct, missed, offCpu } = await converse(guest);
        const says = `${direct} of ${total} passed where they arrived, ${missed} missed, ${offCpu} on another CPU`;
        assert.ok(direct >= 0.8 * total, says);
        assert.equal(
          withDevice((attached) => attached.status().counters.movesRisked),
          0n,
        );
      },
    },
    {
      title: 'flows that send a packet now and then stay followed, however seldom they are answered',
      async run(guest) {
        using receiver = await Receiver.open(PORT);
        await guest.ask({ do: 'open', endpoints: flows.map(({ from }) => from), echo: false });
        const before = countsOf('missedPackets');
        // Longer in all than the tap remembers a flow that is silent.
        await receiver.send(flows, 3, 64, KEPT_ALIVE_MS);
        await guest.ask({ do: 'send', flows, packets: 2, payloadBytes: 64 });
        await receiver.expect(flows, 2);
        assert.deepEqual(grown(before, countsOf('missedPackets')), new Map());
      },
    },
    {
      title: 'flows that the tap has forgotten are handed on, and followed again after the next packet that leaves',
      async run(guest) {
        await sleep(FORGOTTEN_MS);
        using receiver = await Receiver.open(PORT);
        const before = countsOf('missedPackets');
        await guest.ask({ do: 'open', endpoints: flows.map(({ from }) => from), echo: false });
        await guest.ask({ do: 'send', flows, packets: 2, payloadBytes: 64 });
        await receiver.expect(flows, 2);
        const missed = sumOf(grown(before, countsOf('missedPackets')));
        assert.ok(missed >= flows.length, `${missed} of ${2 * flows.length} packets arrived elsewhere`);
        receiver.close();
        const again = await converse(guest);
        assert.ok(again.direct >= 0.8 * total, `${again.direct} of ${total} passed where they arrived`);
        assert.equal(
          withDevice((attached) => attached.status().counters.movesRisked),
          0n,
        );
      },
    },
    {
      title: 'detaching puts XPS back as it was',
      async run(guest) {
        await detach();
        assert.deepEqual(readSettings(guest, xps), xpsBefore);
      },
    },
  ],
};
