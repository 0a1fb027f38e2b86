// SPDX-License-Identifier: Apache-2.0
/**
 * From attaching to detaching, on queues that attaching multiplies: what arrives on all of them is counted, a daemon that
 * is killed and programs that are replaced lose no packet, a zone that falls silent is taken out by the kernel alone, and
 * in the end every setting of the device is what it was.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openController } from '../../../src/app/environment.ts';
import { possibleCpuCount } from '../../../src/app/machine.ts';
import { upgradeDataplane } from '../../../src/app/upgrade.ts';
import { DEFAULT_SOCKET } from '../../../src/cli/connection.ts';
import type { DeviceInput } from '../../../src/config/schema.ts';
import { sendTo } from '../../support/daemon.ts';
import { upgradedObject } from '../harness/objects.ts';
import { peerAzs } from '../harness/protocol.ts';
import { type Guest, type Suite, skipCheck } from './checks.ts';
import { executable, runVnicctl, vnicctl } from './command.ts';
import { nicName, setCombined } from './nic.ts';
import { readLinkFile } from './nics.ts';
import { readSettings } from './settings.ts';
import { device, withDevice } from './steered.ts';
import { eventually, type Flow, makeFlows, Receiver } from './traffic.ts';

const PORT = 4800;
const CONFIG_FILE = '/tmp/vnic-life.json';
/** Long for a guest that is emulated: a round of its peer takes longer than one of a real zone. */
const SILENCE_MS = 400;
/** An emulated peer sends some hundred packets a second. */
const BUSY_PPS = 5;
const COALESCE_USECS = 1000;
const START_MS = 180_000;
/** A look takes CPU from the daemon that it waits for. */
const LOOK_EVERY_MS = 3000;

/** As few as the driver begins with on a machine of so many CPUs. */
const queuesOf = ({ machine }: Guest): number => Math.min(8, machine.nics[0]!.queues);

/** After attaching: one more for each CPU, where the device has them. */
function grownQueues(guest: Guest): number {
  const queues = queuesOf(guest);
  const grown = queues + possibleCpuCount();
  return grown <= guest.machine.nics[0]!.queues ? grown : queues;
}

const spec = (queues: number): DeviceInput => ({
  num_queues: queues,
  coalesce_usecs: COALESCE_USECS,
  adaptive_threshold: BUSY_PPS,
  azs: peerAzs.map(({ name, prefixes }, index) => ({
    name,
    queues: [
      `0-${Math.floor(queues / 3) - 1}`,
      `${Math.floor(queues / 3)}-${Math.floor((2 * queues) / 3) - 1}`,
      `${Math.floor((2 * queues) / 3)}-${queues - 1}`,
    ][index]!,
    prefixes: [...prefixes],
    silence_ms: SILENCE_MS,
  })),
});

const flows = makeFlows(4, PORT);
const withoutZone = (name: string): Flow[] => flows.filter(({ az }) => az !== name);

let before: Record<string, string> = {};

async function open({ ask }: Guest): Promise<void> {
  await ask({ do: 'open', endpoints: flows.map(({ from }) => from), echo: false });
}

const send = ({ ask }: Guest, list: readonly Flow[], packets: number) =>
  ask({ do: 'send', flows: list, packets, payloadBytes: 64 });

/** Sends every flow while something is done, and checks that each packet came, once and in order. */
async function losesNothing(guest: Guest, packets: number, action: () => unknown): Promise<void> {
  using receiver = await Receiver.open(PORT);
  await open(guest);
  const sending = send(guest, flows, packets);
  await sleep(100);
  await action();
  await sending;
  await receiver.expect(flows, packets);
}

/** What NAPI waits before it polls again, ns. */
const readNapiDelay = (): number => Number(readLinkFile(nicName, 'gro_flush_timeout'));

interface Coalescing {
  via: string;
  delayUsecs: number;
  stopped: string | null;
}

interface Az {
  name: string;
  state: string;
  cause: string | null;
  evidence: string | null;
  health?: { silence?: { armed: boolean } };
}

export const suite: Suite = {
  title: 'a device from attaching to detaching',
  machines: ['standard'],
  short: [],
  checks: [
    {
      title: 'attaching says that it adds receive queues, and what arrives on them is counted',
      async run(guest) {
        const queues = queuesOf(guest);
        setCombined(queues);
        before = readSettings(nicName);
        writeFileSync(CONFIG_FILE, JSON.stringify({ devices: { [nicName]: spec(queues) } }));
        const { findings } = await vnicctl<{ findings: { code: string }[] }>('doctor', nicName);
        const grows = grownQueues(guest) > queues;
        assert.equal(
          findings.some(({ code }) => code === 'virtio_rx_queues_grow'),
          grows,
        );
        await vnicctl('attach', nicName, '--config', CONFIG_FILE);
        using receiver = await Receiver.open(PORT);
        await open(guest);
        await send(guest, flows, 4);
        await receiver.expect(flows, 4);
        const counted = await vnicctl<{ items: QueueItem[] } | QueueItem[]>('queues', nicName);
        const items = Array.isArray(counted) ? counted : counted.items;
        const rx = items.filter(({ rxPackets }) => Number(rxPackets) > 0);
        const sum = (list: QueueItem[], field: 'rxPackets' | 'steeredPackets') =>
          list.reduce((all, item) => all + Number(item[field]), 0);
        assert.equal(sum(items, 'rxPackets'), flows.length * 4);
        assert.equal(sum(items, 'steeredPackets'), flows.length * 4);
        assert.equal(
          sum(
            items.filter(({ queue }) => queue >= queues),
            'steeredPackets',
          ),
          0,
        );
        console.log(`arrived on queues ${rx.map(({ queue }) => queue).join(' ')} of ${grownQueues(guest)}`);
        assert.equal(
          rx.some(({ queue }) => queue >= queues),
          grows,
        );
      },
    },
    {
      title: 'programs of another build take the place of the running ones, and no packet is lost',
      async run(guest) {
        if (!existsSync(upgradedObject)) skipCheck('the host has made no other build');
        const controller = openController();
        const upgrade = (objectFile?: string) =>
          controller.locked(() => {
            const settings = controller.withDevice(device, ({ record }) => record.settings);
            const pins = controller.pins(device);
            const file = objectFile === undefined ? {} : { objectFile };
            return upgradeDataplane({ native: guest.native, pins, settings, ...file });
          });
        await losesNothing(guest, 120, () => {
          const { programs, pausesQueues } = upgrade(upgradedObject);
          assert.ok(
            Object.values(programs).every((change) => change === 'replaced'),
            JSON.stringify(programs),
          );
          assert.equal(pausesQueues, true);
        });
        upgrade();
      },
    },
    {
      title: 'a daemon delays interrupts under load and says so; it is killed meanwhile, and no packet is lost',
      async run(guest) {
        assert.equal(readNapiDelay(), 0);
        const env = { ...process.env, EXPORTER_PORT: '0' };
        const daemon = spawn(executable, ['serve'], { stdio: ['ignore', 'ignore', 'inherit'], env });
        const readCoalescing = async (): Promise<Coalescing | null> => {
          const { status, stdout } = await runVnicctl('--socket', DEFAULT_SOCKET, '-o', 'json', 'status', nicName);
          return status === 0 ? (JSON.parse(stdout) as { coalescing: Coalescing }).coalescing : null;
        };
        try {
          await eventually(async () => (await readCoalescing()) !== null, START_MS, LOOK_EVERY_MS);
          await open(guest);
          let coalescing = null as Coalescing | null;
          await eventually(async () => {
            const sending = send(guest, flows, 150);
            coalescing = await readCoalescing();
            await sending;
            return coalescing !== null && coalescing.delayUsecs > 0;
          }, START_MS);
          console.log(`coalescing: ${JSON.stringify(coalescing)}`);
          const { via, delayUsecs, stopped } = coalescing ?? assert.fail('the daemon does not answer');
          assert.deepEqual([via, stopped], ['napi', null]);
          assert.ok(delayUsecs > 0 && delayUsecs <= COALESCE_USECS, `${delayUsecs} us`);
          const metrics = (await sendTo(DEFAULT_SOCKET, 'GET', '/metrics')).text;
          const changes = /^virtio_nic_coalesce_changes_total\{[^}]*\} (\d+)$/m.exec(metrics)?.[1];
          assert.ok(Number(changes) >= 1, `virtio_nic_coalesce_changes_total is ${changes}`);
          await losesNothing(guest, 60, async () => {
            await eventually(() => readNapiDelay() > 0);
            daemon.kill('SIGKILL');
          });
        } finally {
          daemon.kill('SIGKILL');
        }
        await eventually(() => daemon.signalCode !== null);
        assert.equal(daemon.signalCode, 'SIGKILL');
        // As the killed daemon left it: detaching has to put it back.
        assert.notEqual(readNapiDelay(), 0);
      },
    },
    {
      title: 'without a daemon the kernel takes out a zone that falls silent, and the others lose nothing',
      async run(guest) {
        const azs = async () => {
          const list = await vnicctl<Az[] | { items: Az[] }>('az', 'list', '-d', nicName);
          return Array.isArray(list) ? list : list.items;
        };
        // The killed daemon's heartbeat counts until then.
        await sleep(withDevice(({ config }) => config.failover.deadmanMs));
        await open(guest);
        let armed = false;
        for (let round = 0; round < 10 && !armed; round++) {
          await send(guest, flows, 150);
          armed = withDevice((attached) => attached.azs().every(({ watch }) => watch?.silence?.armed === true));
        }
        assert.ok(armed, 'the watch has not heard enough');
        using receiver = await Receiver.open(PORT);
        const rest = withoutZone('az-b');
        const packets = 150;
        await send(guest, rest, packets);
        await receiver.expect(rest, packets);
        const list = await azs();
        const evidence = list.find(({ name }) => name === 'az-b')?.evidence ?? '';
        console.log(`az-b: ${evidence}`);
        assert.match(evidence, /^nothing came from it for .*heartbeat was stale/);
        assert.deepEqual(
          list.map(({ name, state, cause }) => [name, state, cause]),
          [
            ['az-a', 'up', null],
            // Switched by the kernel while no daemon was there.
            ['az-b', 'failed', 'deadman'],
            ['az-c', 'up', null],
          ],
        );
      },
    },
    {
      title: 'detaching leaves every setting of the device as it was before attaching',
      async run(guest) {
        await vnicctl('detach', nicName);
        const after = readSettings(nicName);
        setCombined(guest.machine.nics[0]!.queues);
        assert.deepEqual(after, before);
      },
    },
  ],
};

interface QueueItem {
  queue: number;
  rxPackets: string | number;
  steeredPackets: string | number;
}
