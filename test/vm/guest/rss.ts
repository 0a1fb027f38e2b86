// SPDX-License-Identifier: Apache-2.0
/** Redirect mode `rss` on virtio_net with an RSS table: what the table says is what the queues' counters show. */
import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { Ethtool, type RssSettings } from '../../../src/loader/ethtool.ts';
import { type RssHashing, rssEntry, rssHashings } from '../../../src/steering/rss-hashing.ts';
import { parseAddress } from '../../../src/steering/rules/prefix.ts';

import type { Guest, Suite } from './checks.ts';
import { vnicctl } from './command.ts';
import { grown, nicName, run } from './nic.ts';
import { attach, countsOf, detach, readSettings, redirectStatus, sumOf } from './redirect-parts.ts';
import { countByQueue, makeFlows, Receiver, UDP } from './traffic.ts';

const PORT = 8100;
const PACKETS = 10;
/** The driver's count of queues for RSS is from when it was probed: one for each CPU. */
const QUEUES = 8;
const AZ_QUEUES = ['0-2', '3-5', '6-7'];

const flows = makeFlows(5, PORT);
const total = flows.length * PACKETS;
let tableBefore: Record<string, string | null> = {};

function rss({ native }: Guest): RssSettings {
  using ethtool = new Ethtool(native, nicName);
  const settings = ethtool.rss();
  assert.ok(settings !== null, 'the device has an RSS table');
  return settings;
}

/** Receive queue of each flow, by the table that the device was given. */
function expectedQueues(settings: RssSettings, hashing: RssHashing): number[] {
  assert.ok(settings.isToeplitz);
  return flows.map(({ from, to }) => {
    const [src, dst] = [parseAddress(from.address), parseAddress(to.address)];
    const flow = { src, dst, sport: from.port, dport: to.port, proto: UDP };
    return settings.table[rssEntry(hashing, settings, flow)]!;
  });
}

/** Sends all flows; gives what each receive queue got, and what was passed where it arrived. */
async function receive({ ask }: Guest): Promise<{ rx: Map<number, number>; direct: number }> {
  using receiver = await Receiver.open(PORT);
  await ask({ do: 'open', endpoints: flows.map(({ from }) => from), echo: false });
  const before = { rx: countsOf('rxPackets'), direct: countsOf('directPackets') };
  await ask({ do: 'send', flows, packets: PACKETS, payloadBytes: 64 });
  await receiver.expect(flows, PACKETS);
  return {
    rx: grown(before.rx, countsOf('rxPackets')),
    direct: sumOf(grown(before.direct, countsOf('directPackets'))),
  };
}

/** By all ports, with the key as it is shown or as some kernels give it to the device: one and the same for all flows. */
async function checkTable(guest: Guest): Promise<void> {
  const settings = rss(guest);
  const [shown, ...others] = rssHashings(settings)
    .filter(({ udpPorts }) => udpPorts)
    .map((hashing) => countByQueue(expectedQueues(settings, hashing), PACKETS));
  const { rx } = await receive(guest);
  if (!others.some((expected) => isDeepStrictEqual(rx, expected))) assert.deepEqual(rx, shown);
  else console.log('the device has its RSS key one byte further on');
}

export const suite: Suite = {
  title: 'redirect mode rss on virtio_net',
  machines: ['rss'],
  short: [],
  checks: [
    {
      title: 'is what would be tried, and what is asked for is in force: counters show the table, packet by packet',
      async run(guest) {
        run('ethtool', '-L', nicName, 'combined', String(QUEUES));
        tableBefore = readSettings(guest, ['rss/table']);
        const { redirect } = await vnicctl<{ redirect: { mode: string; trial: string } }>('doctor', nicName);
        assert.deepEqual([redirect.mode, redirect.trial], ['cpumap', 'rss']);
        await attach(['--redirect', 'rss'], AZ_QUEUES);
        assert.equal(rss(guest).table.length, 128);
        await checkTable(guest);
        const { device } = await redirectStatus();
        assert.deepEqual(device, { flows: flows.length, obeyed: flows.length, verdict: 'obeys' });
      },
    },
    {
      title: 'sends what is heavy where it belongs, so that most packets are passed where they arrive',
      async run(guest) {
        // The driver leaves interrupts where it likes: what arrives on another CPU than the queue's is handed on.
        await vnicctl('tune', nicName, '--apply');
        const { direct: before } = await receive(guest);
        const { actions } = await vnicctl<{ actions: string[] }>('apply', nicName);
        assert.match(actions.join(), /set the RSS table: the RSS table can be better/);
        await checkTable(guest);
        const { direct } = await receive(guest);
        assert.ok(direct > before, `${direct} of ${total} after, ${before} before`);
        assert.ok(direct >= 0.8 * total, `${direct} of ${total} passed where they arrived`);
      },
    },
    {
      title: 'is in force again after detaching and attaching, which makes the driver forget it',
      async run(guest) {
        await detach();
        await attach(['--redirect', 'rss'], AZ_QUEUES);
        await checkTable(guest);
      },
    },
    {
      title: 'leaves the queues of a lost AZ without a packet, and uses them again when it is back',
      async run(guest) {
        const isLost = (queue: number): boolean => queue >= 3 && queue <= 5;
        await vnicctl('az', 'fail', 'az-b');
        assert.ok(rss(guest).table.every((queue) => !isLost(queue)));
        const { rx } = await receive(guest);
        assert.equal(sumOf(rx), total);
        assert.deepEqual([...rx.keys()].filter(isLost), []);
        await vnicctl('az', 'recover', 'az-b');
        assert.ok(rss(guest).table.some(isLost));
        await checkTable(guest);
      },
    },
    {
      title: 'detaching puts the table back as it was',
      async run(guest) {
        await detach();
        assert.deepEqual(readSettings(guest, ['rss/table']), tableBefore);
      },
    },
  ],
};
