// SPDX-License-Identifier: Apache-2.0
/**
 * What chooses the RX queue where the device has no RSS table: receive follows transmit, and who chooses the TX queue.
 * The peer sends back what it gets; a probe says on which RX queue it came.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { possibleCpuCount } from '../../../src/app/machine.ts';
import { attachClsactEgress, detachClsactEgress } from '../../../src/loader/clsact.ts';
import type { Guest, Suite } from './checks.ts';
import { clearXps, nicName, run, setCombined, succeeds } from './nic.ts';
import { nicsOf } from './nics.ts';
import { collect } from './peer.ts';
import { Probe } from './probe.ts';
import { type Flow, makeFlows, Receiver } from './traffic.ts';

const PORT = 4600;
const ROUNDS = 6;
/** A packet or two may be on their way by the old queue. */
const LEARNING_ROUNDS = 3;
const PAUSE_MS = 20;
/** TUN_FLOW_EXPIRE in drivers/net/tun.c is 3 s, looked at every 3 s. */
const FORGET_MS = 6500;

const flows = makeFlows(1, PORT);
const QUEUES = `/sys/class/net/${nicName}/queues`;

/** RX queues that the answers of datagrams come on, after the peer's end has learned. */
async function answers({ ask }: Guest, probe: Probe, list: readonly Flow[] = flows): Promise<Map<number, number>> {
  using receiver = await Receiver.open(PORT);
  await ask({ do: 'open', endpoints: list.map(({ from }) => from), echo: true });
  await receiver.send(list, LEARNING_ROUNDS, 64, PAUSE_MS);
  await collect(() => probe.takeQueues(), list.length * LEARNING_ROUNDS);
  await receiver.send(list, ROUNDS, 64, PAUSE_MS);
  return collect(() => probe.takeQueues(), list.length * ROUNDS);
}

const onOne = (queue: number): Map<number, number> => new Map([[queue, flows.length * ROUNDS]]);

/** Some of all the queues, the first that a CPU would not be given among them. */
function wantedQueues({ machine }: Guest): number[] {
  const most = machine.nics[0]!.queues;
  return [...new Set([1, 3, Math.floor(most / 2), most - 1])];
}

function xpsMasks(): string[] {
  const names = readdirSync(QUEUES).filter((name) => name.startsWith('tx-'));
  return names.map((name) => readFileSync(`${QUEUES}/${name}/xps_cpus`, 'utf8').trim());
}

const isEmpty = (mask: string): boolean => /^[0,]*$/.test(mask);

/** The driver sets XPS with every change of the number of queues, which it refuses while XDP is attached. */
function restoreXps({ machine }: Guest): void {
  const most = machine.nics[0]!.queues;
  setCombined(most - 1);
  setCombined(most);
}

/** Runs with a program at clsact egress that chooses `queue_mapping`. */
async function withMapping(guest: Guest, action: (probe: Probe) => Promise<void>): Promise<void> {
  const { ifindex } = nicsOf(guest.machine)[0]!;
  using probe = new Probe(guest.native);
  using _link = probe.attach('probe_pass', ifindex);
  const made = attachClsactEgress(guest.native, probe.program('probe_egress'), ifindex);
  try {
    await action(probe);
  } finally {
    detachClsactEgress(guest.native, ifindex, made);
  }
}

/** Runs with TC's own action at egress. */
async function withSkbedit(guest: Guest, queue: number, action: (probe: Probe) => Promise<void>): Promise<void> {
  const { ifindex } = nicsOf(guest.machine)[0]!;
  using probe = new Probe(guest.native);
  using _link = probe.attach('probe_pass', ifindex);
  run('tc', 'qdisc', 'add', 'dev', nicName, 'clsact');
  try {
    for (const protocol of ['ip', 'ipv6']) {
      const match = ['protocol', protocol, 'flower', 'ip_proto', 'udp', 'src_port', String(PORT)];
      const edit = ['action', 'skbedit', 'queue_mapping', String(queue)];
      run('tc', 'filter', 'add', 'dev', nicName, 'egress', ...match, ...edit);
    }
    await action(probe);
  } finally {
    run('tc', 'qdisc', 'del', 'dev', nicName, 'clsact');
  }
}

export const suite: Suite = {
  title: 'who chooses the queue on virtio_net',
  machines: ['standard'],
  short: [],
  checks: [
    {
      title: 'the driver gives each TX queue its CPUs (XPS), with every change of the number of queues and of CPUs',
      run(guest) {
        assert.ok(
          xpsMasks().every((mask) => !isEmpty(mask)),
          xpsMasks().join(' '),
        );
        clearXps();
        assert.ok(xpsMasks().every(isEmpty));
        restoreXps(guest);
        assert.ok(
          xpsMasks().every((mask) => !isEmpty(mask)),
          'after ethtool -L',
        );
        clearXps();
        const last = `/sys/devices/system/cpu/cpu${possibleCpuCount() - 1}/online`;
        writeFileSync(last, '0');
        const offline = xpsMasks();
        writeFileSync(last, '1');
        assert.ok(
          offline.some((mask) => !isEmpty(mask)),
          'after a CPU went',
        );
        restoreXps(guest);
      },
    },
    {
      title: 'with XPS a program at egress cannot choose the TX queue',
      run: (guest) =>
        withMapping(guest, async (probe) => {
          const [queue = 1] = wantedQueues(guest).slice(-1);
          probe.chooseTx(queue + 1);
          assert.notDeepEqual(await answers(guest, probe), onOne(queue));
        }),
    },
    {
      title: 'with XPS cleared it can, by queue + 1, and answers arrive on the RX queue of the same number',
      async run(guest) {
        try {
          await withMapping(guest, async (probe) => {
            clearXps();
            for (const queue of wantedQueues(guest)) {
              probe.chooseTx(queue + 1);
              assert.deepEqual(await answers(guest, probe), onOne(queue));
            }
          });
        } finally {
          restoreXps(guest);
        }
      },
    },
    {
      title: 'skbedit chooses the TX queue by its number, with XPS too',
      async run(guest) {
        for (const queue of wantedQueues(guest)) {
          await withSkbedit(guest, queue, async (probe) => {
            assert.deepEqual(await answers(guest, probe), onOne(queue));
          });
        }
      },
    },
    {
      title: 'what was learned is forgotten when the guest is silent: flows that only arrive lose their queue',
      async run(guest) {
        const [queue = 1] = wantedQueues(guest).slice(-1);
        await withSkbedit(guest, queue, async (probe) => {
          assert.deepEqual(await answers(guest, probe), onOne(queue));
          await sleep(FORGET_MS);
          const { sent = 0 } = await guest.ask({ do: 'send', flows, packets: ROUNDS, payloadBytes: 64 });
          const seen = await collect(() => probe.takeQueues(), sent);
          console.log(`after ${FORGET_MS} ms: RX queues ${[...seen.keys()].join(' ')}, ${queue} was learned`);
          assert.notDeepEqual(seen, new Map([[queue, sent]]));
        });
      },
    },
    {
      title: 'the number of TX queues cannot be exceeded: a queue that is not there is not used',
      async run(guest) {
        const most = guest.machine.nics[0]!.queues;
        await withSkbedit(guest, most, async (probe) => {
          const seen = await answers(guest, probe);
          assert.ok([...seen.keys()].every((queue) => queue < most));
        });
        assert.ok(succeeds('ip', 'link', 'show', nicName));
      },
    },
  ],
};
