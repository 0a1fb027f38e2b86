// SPDX-License-Identifier: Apache-2.0
/** Tuning of the host side on the real driver: MSI-X vectors, channels, XPS, NAPI. The device is not attached. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openController } from '../../../src/app/environment.ts';
import { onlineCpus } from '../../../src/app/machine.ts';
import { AutoCoalescing, type CoalescedDevice } from '../../../src/app/tuning/auto-coalescing.ts';
import { restoreTuning, tuneDevice } from '../../../src/app/tuning/tune-device.ts';
import { parseDevice } from '../../../src/config/device.ts';
import { interruptNames } from '../../../src/tune/facts.ts';
import type { Guest, Suite } from './checks.ts';
import { nicName, run } from './nic.ts';
import { device } from './steered.ts';
import { makeFlows } from './traffic.ts';

const FOLDER = `/sys/class/net/${nicName}`;
const SOURCES = path.join(import.meta.dirname, '../../../src');
const asked = { num_queues: 6, adaptive_coalesce: false, coalesce_usecs: 50 };
const PORT = 4100;

const readLine = (file: string): string => readFileSync(file, 'utf8').trim();

/** Everything that tuning may touch, as the kernel says it. */
function readings(): string {
  const lines = readdirSync('/proc/irq')
    .filter((name) => /^\d+$/.test(name))
    .map((irq) => `irq ${irq} ${readLine(`/proc/irq/${irq}/smp_affinity_list`)}`);
  for (const file of ['gro_flush_timeout', 'napi_defer_hard_irqs'])
    lines.push(`${file} ${readLine(`${FOLDER}/${file}`)}`);
  for (const queue of readdirSync(`${FOLDER}/queues`).sort()) {
    for (const file of readdirSync(`${FOLDER}/queues/${queue}`).filter((name) => /^(?:xps|rps)_/.test(name))) {
      lines.push(`${queue} ${file} ${readLine(`${FOLDER}/queues/${queue}/${file}`)}`);
    }
  }
  return [...lines, run('ethtool', '-l', nicName), run('ethtool', '-g', nicName), run('ethtool', '-c', nicName)].join(
    '\n',
  );
}

/** Where each interrupt of a receive queue goes, by queue. */
function inputAffinity(): string[] {
  const own = readdirSync(`${FOLDER}/device/../msi_irqs`).map(Number);
  const names = interruptNames(readFileSync('/proc/interrupts', 'utf8'));
  const cpus: string[] = [];
  for (const irq of own) {
    const queue = /-input\.(\d+)$/.exec(names.get(irq) ?? '')?.[1];
    if (queue !== undefined) cpus[Number(queue)] = readLine(`/proc/irq/${irq}/smp_affinity_list`);
  }
  return cpus;
}

function tune(dryRun = false) {
  return tuneDevice(openController(), device, { config: parseDevice(nicName, asked), dryRun });
}

/** Interrupts of the device's receive queues since boot, and the packets that it received. */
function counts(): { interrupts: number; packets: number } {
  const rows = readFileSync('/proc/interrupts', 'utf8').split('\n');
  const cpus = rows[0]!.trim().split(/\s+/).length;
  const perRow = rows
    .filter((row) => /-input\.\d+$/.test(row))
    .map((row) =>
      row
        .trim()
        .split(/\s+/)
        .slice(1, 1 + cpus)
        .reduce((sum, count) => sum + Number(count), 0),
    );
  const packets = Number(readLine(`${FOLDER}/statistics/rx_packets`));
  return { interrupts: perRow.reduce((sum, count) => sum + count, 0), packets };
}

async function interruptsPerPacket({ ask }: Guest, packets: number): Promise<number> {
  const flows = makeFlows(1, PORT).slice(0, 1);
  await ask({ do: 'open', endpoints: flows.map(({ from }) => from), echo: false });
  const before = counts();
  await ask({ do: 'send', flows, packets, payloadBytes: 64 });
  const after = counts();
  return (after.interrupts - before.interrupts) / (after.packets - before.packets);
}

export const suite: Suite = {
  title: 'tuning virtio_net',
  machines: ['standard', 'numa'],
  short: [],
  checks: [
    {
      title:
        'every receive queue has its interrupt on a CPU of its own, local ones first; channels, XPS and NAPI are set',
      run({ machine }) {
        const before = readings();
        const plan = tune();
        const cpus = onlineCpus();
        const affinity = inputAffinity();
        assert.deepEqual(affinity.slice(0, 6), plan.queueCpus.map(String));
        assert.equal(new Set(plan.queueCpus).size, Math.min(6, cpus.length));
        const { numaNode = -1 } = machine.nics[0]!;
        const local = cpus.filter((cpu) => cpu.numaNode === numaNode).map(({ cpu }) => cpu);
        assert.deepEqual(
          plan.queueCpus.slice(0, local.length).filter((cpu) => local.length > 0 && !local.includes(cpu)),
          [],
        );
        assert.match(run('ethtool', '-l', nicName), /Current hardware settings:[\s\S]*Combined:\s+6\b/);
        assert.deepEqual(
          [readLine(`${FOLDER}/gro_flush_timeout`), readLine(`${FOLDER}/napi_defer_hard_irqs`)],
          ['50000', '2'],
        );
        assert.equal(readdirSync(`${FOLDER}/queues`).filter((name) => name.startsWith('tx-')).length, 6);
        assert.deepEqual(tune(true).settings, []);
        const { foreign, failed } = restoreTuning(openController(), device, false);
        assert.deepEqual([foreign, failed], [[], []]);
        assert.equal(readings(), before);
      },
    },
    {
      title: 'killed while it is set, all of it comes back: sysfs, /proc/irq and ethtool read as before',
      run() {
        const before = readings();
        const { settings } = tune(true);
        for (const writes of [1, Math.floor(settings.length / 2)]) {
          const script = `
            import { DeviceTuning } from '${SOURCES}/app/tuning/device-tuning.ts';
            import { stateFolderOf } from '${SOURCES}/app/environment.ts';
            import { loadNative } from '${SOURCES}/loader/ffi/index.ts';
            import { DeviceSettings } from '${SOURCES}/loader/settings/device-settings.ts';
            let left = ${writes};
            const write = DeviceSettings.prototype.write;
            DeviceSettings.prototype.write = function (name, value) {
              if (left-- === 0) process.kill(process.pid, 'SIGKILL');
              write.call(this, name, value);
            };
            const tuning = new DeviceTuning(loadNative(), stateFolderOf(process.env));
            tuning.hold(${JSON.stringify(device)}, 'tune', ${JSON.stringify(settings)});
          `;
          const child = () =>
            execFileSync(process.execPath, ['--input-type=module-typescript', '-e', script], { stdio: 'pipe' });
          assert.throws(child, { signal: 'SIGKILL' });
          assert.notEqual(readings(), before);
          const { foreign, failed } = restoreTuning(openController(), device, false);
          assert.deepEqual([foreign, failed], [[], []], `after ${writes} writes`);
          assert.equal(readings(), before, `after ${writes} writes`);
        }
      },
    },
    {
      title: 'under load fewer interrupts come for a packet, and when it is quiet again settings are as before',
      async run(guest) {
        const before = readings();
        const quiet = await interruptsPerPacket(guest, 150);
        const attached: CoalescedDevice = {
          record: { device },
          // Far longer than anybody would: an emulated CPU takes its time for a packet.
          config: { coalesceUsecs: 40_000, adaptiveCoalesce: true, adaptiveThreshold: 5 },
          coalescing: null,
        };
        const controller = openController();
        const changes: unknown[] = [];
        const auto = new AutoCoalescing({
          received: () => BigInt(counts().packets),
          controller: {
            heldOpen: () => [attached],
            locked: (action) => controller.locked(action),
            tuning: controller.tuning,
          },
          publish: (event) => changes.push(event.data['toUsecs']),
        });
        const looking = setInterval(() => auto.run(), 250);
        let busy: number;
        try {
          await interruptsPerPacket(guest, 300);
          busy = await interruptsPerPacket(guest, 300);
          assert.equal(attached.coalescing?.via, 'napi');
          for (let look = 0; look < 60 && attached.coalescing.delayUsecs !== 0; look++) await sleep(500);
          assert.equal(attached.coalescing.delayUsecs, 0);
        } finally {
          clearInterval(looking);
          auto.end();
        }
        console.log(
          `interrupts for a packet: ${quiet.toFixed(2)} quiet, ${busy.toFixed(2)} coalesced; ${changes.join(' ')} us`,
        );
        assert.ok(busy < 0.7 * quiet, `${busy} of ${quiet} interrupts for a packet`);
        assert.equal(readings(), before);
      },
    },
  ],
};
