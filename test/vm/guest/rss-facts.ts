// SPDX-License-Identifier: Apache-2.0
/** The RSS table of virtio_net: when it decides, and that XDP loses it without a word. */
import assert from 'node:assert/strict';
import { onlineCpus } from '../../../src/app/machine.ts';
import { type Guest, type Suite, skipCheck } from './checks.ts';
import { nicName, run } from './nic.ts';
import { nicsOf } from './nics.ts';
import { collect, sendFlows } from './peer.ts';
import { Probe } from './probe.ts';

const PORT = 4700;
const PER_AZ = 6;
const QUEUE = 5;

/** The queues that stand in the table which `ethtool -x` shows. */
function shownQueues(): number[] {
  const rows = [...run('ethtool', '-x', nicName).matchAll(/^\s*\d+:((?:\s+\d+)+)$/gm)];
  return [...new Set(rows.flatMap(([, row = '']) => row.trim().split(/\s+/).map(Number)))];
}

function setTable(queue: number): void {
  run('ethtool', '-X', nicName, 'start', String(queue), 'equal', '1');
}

const attach = (guest: Guest, probe: Probe) => probe.attach('probe_pass', nicsOf(guest.machine)[0]!.ifindex);

/** RX queues that flows of the peer meet. */
async function queuesMet(guest: Guest, probe: Probe): Promise<number[]> {
  const sent = await sendFlows(guest, PORT, PER_AZ, 2);
  return [...(await collect(() => probe.takeQueues(), sent)).keys()].sort((a, b) => a - b);
}

export const suite: Suite = {
  title: 'the RSS table of virtio_net',
  machines: ['rss'],
  short: [],
  checks: [
    {
      title: 'has 128 entries and a key of 40 bytes',
      run() {
        const text = run('ethtool', '-x', nicName);
        const rows = [...text.matchAll(/^\s*\d+:((?:\s+\d+)+)$/gm)];
        assert.equal(rows.flatMap(([, row = '']) => row.trim().split(/\s+/)).length, 128);
        const key = /RSS hash key:\n((?:[0-9a-f]{2}:?)+)/.exec(text)?.[1] ?? '';
        assert.equal(key.split(':').length, 40);
      },
    },
    {
      title: 'decides while XDP is attached, when it was set after attaching',
      async run(guest) {
        using probe = new Probe(guest.native);
        using _link = attach(guest, probe);
        setTable(QUEUE);
        assert.deepEqual(await queuesMet(guest, probe), [QUEUE]);
        setTable(QUEUE + 1);
        assert.deepEqual(await queuesMet(guest, probe), [QUEUE + 1]);
      },
    },
    {
      title: 'names a queue above the number of CPUs, or before Linux 6.12 the one by so many less',
      async run(guest) {
        const cpus = onlineCpus().length;
        if (QUEUE + cpus >= guest.machine.nics[0]!.queues) skipCheck('the device has no more queues than CPUs');
        using probe = new Probe(guest.native);
        using _link = attach(guest, probe);
        setTable(QUEUE + cpus);
        assert.deepEqual(shownQueues(), [QUEUE + cpus]);
        const met = await queuesMet(guest, probe);
        console.log(`entry ${QUEUE + cpus} with ${cpus} CPUs: RX queue ${met.join(' ')}`);
        assert.deepEqual(met, [met.includes(QUEUE) ? QUEUE : QUEUE + cpus]);
      },
    },
    {
      title: 'is lost by attaching: ethtool still shows it, and packets land elsewhere until it is set again',
      async run(guest) {
        setTable(QUEUE);
        using probe = new Probe(guest.native);
        using _link = attach(guest, probe);
        assert.deepEqual(shownQueues(), [QUEUE]);
        const met = await queuesMet(guest, probe);
        console.log(`after attaching: RX queues ${met.join(' ')}`);
        assert.ok(met.length > 1, `all on ${met.join(' ')}`);
        setTable(QUEUE);
        assert.deepEqual(await queuesMet(guest, probe), [QUEUE]);
      },
    },
  ],
};
