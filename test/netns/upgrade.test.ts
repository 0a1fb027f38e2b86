// SPDX-License-Identifier: Apache-2.0
/** Programs replaced while packets run through them. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { constants, getPriority, tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Dataplane, objectPath, type ProgramName, programNames } from '../../src/app/dataplane.ts';
import { parseDevice } from '../../src/config/device.ts';
import { attachChecker } from '../rig/checker.ts';
import { makeFlows } from '../rig/flows.ts';
import { startGenerator } from '../rig/generator.ts';
import { deviceInput, Setting } from '../rig/scenarios/setting.ts';
import {
  type Counted,
  checkUpgrades,
  counted,
  settingsOf,
  type UpgradeResult,
  upgrade,
} from '../rig/scenarios/upgrade.ts';
import { startSockets } from '../rig/sockets.ts';
import { createRig, type Rig } from '../rig/topology.ts';
import { buildDataplane, type Edits, withNop } from '../support/builds.ts';
import type { UpgradePlan } from '../support/upgrade-child.ts';

const RANDOM_KILLS = 10;
const childScript = path.join(import.meta.dirname, '../support/upgrade-child.ts');

describe('an upgrade under traffic', function () {
  this.timeout(300_000);
  let folder: string;
  let rig: Rig;
  let setting: Setting;
  const builds = new Map<string, string>();

  /** Another build of the programs, made once. */
  function build(name: string, edits: Edits): string {
    const made = builds.get(name) ?? buildDataplane(folder, name, { edits });
    builds.set(name, made);
    return made;
  }
  const optimized = (): string => build('optimized', { Makefile: (text) => text.replace('-O2', '-O3') });
  const allOthers = (): string => build('all', withNop(...programNames));

  before(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-builds-'));
    rig = createRig({ id: 'upgrade' });
    setting = new Setting(rig);
    setting.attach();
  });
  afterEach(() => {
    upgrade(setting, objectPath);
  });
  after(() => {
    setting?.dispose();
    rig?.dispose();
    rmSync(folder, { recursive: true, force: true });
  });

  function assertOnlyGrew(before: Counted, after: Counted, when: string): void {
    for (const [array, words] of before.words.entries()) {
      const later = after.words[array];
      const back = words.findIndex((value, index) => (later?.[index] ?? -1n) < value);
      assert.equal(back, -1, `${when}: word ${back} of array ${array} went back`);
    }
    assert.equal(after.drops, before.drops, `${when}: packets were dropped`);
    assert.ok(after.received > before.received, `${when}: nothing was received`);
  }

  function assertNothingLost(result: UpgradeResult): void {
    assert.deepEqual({ lost: result.lost, duplicates: result.duplicates }, { lost: 0, duplicates: 0 });
    for (const [index, later] of result.counted.entries()) {
      const before = result.counted[index - 1];
      if (before === undefined) continue;
      assertOnlyGrew(before, later, `step ${index}`);
      // The flow table was not begun anew: the flows were all there before the first upgrade.
      if (index > 1) assert.equal(later.flowsCreated, before.flowsCreated, `step ${index}`);
    }
  }

  const replacedIn = ({ upgrades }: UpgradeResult): ProgramName[][] =>
    upgrades.map(({ report }) => programNames.filter((name) => report.programs[name] === 'replaced'));

  it('loses no packet and keeps the order, back and forth between two builds, while vnic_cpu stays', async function () {
    // The machine may stop everything for longer than a ring holds; a wrong step fails each time.
    this.retries(2);
    const there = optimized();
    const files = [there, objectPath, there, objectPath, there, objectPath];
    const result = await checkUpgrades(setting, files, { flows: 10_000, ratePps: 500_000, pauseMs: 400 });
    assertNothingLost(result);
    assert.equal(result.reordered, 0);
    for (const replaced of replacedIn(result)) {
      assert.ok(replaced.includes('vnic_ingress') && replaced.includes('vnic_egress'));
      assert.ok(!replaced.includes('vnic_cpu') && !replaced.includes('vnic_root'));
    }
    for (const { report } of result.upgrades) {
      assert.deepEqual([report.replacedCpus, report.pausesQueues], [[], false]);
    }
  });

  it('loses no packet when CPUMAP entries and the root program are replaced too', async function () {
    this.retries(2);
    const there = allOthers();
    const files = [there, objectPath, there, objectPath, there, objectPath];
    const result = await checkUpgrades(setting, files, { flows: 10_000, ratePps: 400_000, pauseMs: 400 });
    console.log(`      ${result.reordered} of ${result.sent} packets reordered by ${files.length} upgrades`);
    assertNothingLost(result);
    // A packet in the new ring can overtake only what still waits in the old one.
    assert.ok(result.reordered < result.sent / 1000, `${result.reordered} of ${result.sent} reordered`);
    const cpus = [...new Set(setting.cpuOfQueue())].sort((a, b) => a - b);
    for (const [index, { report }] of result.upgrades.entries()) {
      assert.deepEqual(replacedIn(result)[index], programNames);
      assert.deepEqual(report.replacedCpus, cpus);
      // A veth takes another XDP program without stopping.
      assert.equal(report.pausesQueues, false);
    }
  });

  for (const egress of ['tcx', 'clsact'] as const) {
    it(`answers every datagram by its queue while the ${egress} program is replaced`, async () => {
      setting.controller.detach(setting.device);
      const config = parseDevice(rig.device, deviceInput(rig));
      setting.controller.attach(setting.device, { config, mode: 'native', deliverMetadata: true, egress });
      try {
        rig.fabric.forgetDepartures();
        const traffic = await startSockets(rig, {
          az: 'az-a',
          protocol: 'udp',
          connections: 8,
          // Few and small: on a busy machine they must not overflow the one socket that takes all of them.
          messagesPerSecond: 50,
          messageBytes: 100,
        });
        await sleep(200);
        for (const file of [optimized(), objectPath, optimized()]) {
          assert.equal(upgrade(setting, file).report.programs.vnic_egress, 'replaced');
          await sleep(100);
        }
        const { client, server } = await traffic.stop();
        assert.deepEqual([...client.errors, ...server.errors], []);
        assert.ok(client.sentBytes > 0);
        assert.equal(client.receivedBytes, client.sentBytes);
        const answers = rig.fabric.departures().filter(({ dport }) => traffic.clientPorts.includes(dport));
        assert.equal(answers.length, 8);
        // Between two egress programs a packet would leave by a queue that nothing chose.
        for (const { queues, changes } of answers) assert.deepEqual([queues.length, changes], [1, 0]);
      } finally {
        setting.controller.detach(setting.device);
        setting.attach();
      }
    });
  }

  /** Upgrades in a child that is killed, or kills itself. True: it had ended before. */
  async function killedUpgrade(objectFile: string, kill: { at?: number; afterMs?: number }): Promise<boolean> {
    const { device } = setting;
    const { mode, egress, deliverMetadata } = settingsOf(setting);
    const child = fork(childScript);
    const plan: UpgradePlan = {
      device,
      settings: { mode, egress, deliverMetadata },
      objectFile,
      ...(kill.at === undefined ? {} : { killAt: kill.at }),
    };
    const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    child.send(plan);
    const [message] = (await once(child, 'message')) as [string];
    assert.equal(message, 'ready');
    if (kill.afterMs !== undefined) setTimeout(() => child.kill('SIGKILL'), kill.afterMs);
    const [code, signal] = await exited;
    assert.ok(code === 0 || signal === 'SIGKILL', `the child ended with ${code ?? signal}`);
    return code === 0;
  }

  /** Runs `action` while packets come, and accounts for all of them. */
  async function whileSending(action: () => Promise<void>): Promise<void> {
    const flows = makeFlows({ azs: rig.azs, host: rig.host, count: 1000 });
    using checker = attachChecker(rig, { flows });
    const generator = await startGenerator(rig, { flows, ratePps: 50_000, durationMs: 240_000 });
    await action();
    const { sent, sentByFlow } = await generator.stop();
    await checker.settled(sent);
    const { lost, received } = checker.report(sentByFlow);
    assert.deepEqual({ lost, received }, { lost: 0, received: sent });
  }

  async function assertForwards(moment: string): Promise<void> {
    const before = counted(setting);
    await sleep(50);
    assertOnlyGrew(before, counted(setting), moment);
  }

  it('killed at any of its steps it goes on forwarding, and the next one finishes it', async () => {
    // A slot, the egress link, an entry of each CPU, the XDP link; then a pin for each program.
    const attached = 3 + new Set(setting.cpuOfQueue()).size;
    const calls = attached + programNames.length;
    const beforeEach = Array.from({ length: attached }, (_, call) => 2 * call);
    const ofPins = [2 * attached, 2 * attached + 1, 2 * calls - 2, 2 * calls - 1];
    const pins = setting.controller.pins(setting.device);
    await whileSending(async () => {
      for (const [index, at] of [...beforeEach, ...ofPins, 2 * calls].entries()) {
        const file = index % 2 === 0 ? allOthers() : objectPath;
        const finished = await killedUpgrade(file, { at });
        assert.equal(finished, at === 2 * calls, `step ${at} of ${2 * calls}`);
        await assertForwards(`killed at step ${at}`);
        const { programs } = upgrade(setting, file).report;
        assert.equal(Object.values(programs).includes('replaced'), !finished, `step ${at}`);
        assert.deepEqual(
          pins.names().filter((name) => name.endsWith('_next')),
          [],
        );
      }
    });
  });

  /** Nothing is left of another build: the same upgrade once more finds nothing to do. */
  function assertEverywhere(objectFile: string, when: string): void {
    const { programs, replacedCpus } = upgrade(setting, objectFile).report;
    assert.deepEqual([...new Set(Object.values(programs)), replacedCpus], ['unchanged', []], when);
  }

  it(`killed at ${RANDOM_KILLS} random moments it goes on forwarding, and the next one finishes it`, async () => {
    const { durationMs } = upgrade(setting, allOthers());
    upgrade(setting, objectPath);
    await whileSending(async () => {
      for (let kill = 0; kill < RANDOM_KILLS; kill++) {
        const file = kill % 2 === 0 ? allOthers() : objectPath;
        const afterMs = durationMs * 1.2 * Math.random();
        await killedUpgrade(file, { afterMs });
        await assertForwards(`killed after ${afterMs.toFixed(0)} ms`);
        upgrade(setting, file);
        assertEverywhere(file, `killed after ${afterMs.toFixed(0)} ms`);
      }
    });
  });

  it('gives the threads of the entries that it replaced their priority', () => {
    upgrade(setting, allOthers());
    using dataplane = Dataplane.open(rig.native, setting.controller.pins(setting.device));
    // kernel/bpf/cpumap.c names them "cpumap/<cpu>/map:<id>".
    const ours = new RegExp(`^cpumap/\\d+/map:${dataplane.cpus.map.id}$`);
    const priorities = readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid) && ours.test(commandOf(pid)))
      .map((pid) => getPriority(Number(pid)));
    assert.ok(priorities.length >= new Set(setting.cpuOfQueue()).size);
    assert.deepEqual(new Set(priorities), new Set([constants.priority.PRIORITY_HIGHEST]));
  });
});

function commandOf(pid: string): string {
  const file = `/proc/${pid}/comm`;
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : '';
}
