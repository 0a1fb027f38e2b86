// SPDX-License-Identifier: Apache-2.0
/** What the daemon does is not felt by the packets: its death, its restart, an upgrade, large rule sets. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  attachByDaemon,
  checkLife,
  checkOneRule,
  checkRuleSetSwitch,
  deviceOf,
  type LifeResult,
} from '../rig/scenarios/daemon.ts';
import { createRig, type Rig } from '../rig/topology.ts';
import { buildDataplane, withNop } from '../support/builds.ts';
import { TestDaemon } from '../support/daemon.ts';

describe('the daemon under traffic', function () {
  this.timeout(300_000);
  let folder: string;
  let rig: Rig;
  let daemon: TestDaemon;
  let url: string;

  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'vnic-builds-'));
    rig = createRig({ id: 'daemon' });
    daemon = await TestDaemon.start();
    url = `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}`;
    await attachByDaemon(rig, daemon);
  });
  after(async () => {
    await daemon?.send('DELETE', `${url}?force=true`).catch(() => undefined);
    await daemon?.[Symbol.asyncDispose]();
    rig?.dispose();
    rmSync(folder, { recursive: true, force: true });
  });

  function assertNotFelt({ sent, report, counted }: LifeResult): void {
    const { lost, duplicates, reordered } = report;
    assert.deepEqual({ lost, duplicates, reordered }, { lost: 0, duplicates: 0, reordered: 0 });
    assert.ok(sent.sent > 100_000, `only ${sent.sent} packets were sent`);
    counted.slice(1).forEach(({ when, counted: later }, index) => {
      const before = counted[index]!.counted;
      before.words.forEach((words, array) => {
        const back = words.findIndex((value, word) => (later.words[array]?.[word] ?? -1n) < value);
        assert.equal(back, -1, `${when}: word ${back} of array ${array} went back`);
      });
      assert.ok(later.received > before.received, `${when}: nothing was received`);
      assert.equal(later.drops, before.drops, `${when}: packets were dropped`);
    });
  }

  it('loses no packet through kill -9, restart, stop, upgrade of the programs and back', async function () {
    // The machine may stop everything for longer than a ring holds; a wrong step fails each time.
    this.retries(2);
    const other = buildDataplane(folder, 'other', { edits: withNop('vnic_ingress', 'vnic_egress') });
    const upgrades = daemon.events('device.upgraded').length;
    const result = await checkLife(
      rig,
      [
        { name: 'kill -9', perform: () => daemon.kill() },
        { name: 'restart', perform: () => daemon.run() },
        { name: 'stop', perform: async () => assert.equal(await daemon.stop(), 0) },
        { name: 'start with other programs', perform: () => daemon.run({ VNIC_BPF_OBJECT: other }) },
        { name: 'kill -9 again', perform: () => daemon.kill() },
        { name: 'start with the first programs', perform: () => daemon.run() },
      ],
      { flows: 5000, ratePps: 500_000, pauseMs: 300 },
    );
    const rate = (result.sent.sent * 1000) / result.sent.elapsedMs;
    console.log(`      ${result.sent.sent} packets at ${Math.round(rate / 1000)} kpps, ${result.report.lost} lost`);
    assertNotFelt(result);
    assert.equal(daemon.events('device.upgraded').length, upgrades + 2, 'both upgrades were made');
    assert.deepEqual((await daemon.ask<{ drift: unknown[] }>('GET', url)).drift, []);
  });

  it('lets no packet meet a part of a rule set while 100,000 rules are replaced by one PUT', async function () {
    this.retries(2);
    const result = await checkRuleSetSwitch(rig, daemon, {
      rules: 100_000,
      switches: 3,
      flows: 2000,
      ratePps: 200_000,
    });
    console.log(
      `      PUT ${result.putMs.map((ms) => `${Math.round(ms)} ms`).join(', ')}; ` +
        `event loop at most ${result.eventLoopLagMs.toFixed(1)} ms late; ${result.sent} packets, ${result.halfSet} wrong`,
    );
    assert.deepEqual({ lost: result.lost, halfSet: result.halfSet }, { lost: 0, halfSet: 0 });
    assert.ok(
      result.onQueues.every((packets) => packets > 1000),
      `packets on the sets' queues: ${result.onQueues.join(', ')}`,
    );
    assert.equal(result.onQueues[0] + result.onQueues[1], result.sent);
  });

  it('has a rule in effect when it answers', async () => {
    await daemon.ask('PUT', `${url}/rules`, { body: [] });
    const { effectMs, answerMs } = await checkOneRule(rig, daemon, { changes: 5, ratePps: 20_000 });
    console.log(
      `      first packet ${effectMs.map((ms) => ms.toFixed(2)).join(', ')} ms after the answer, ` +
        `which took ${answerMs.map((ms) => ms.toFixed(1)).join(', ')} ms`,
    );
    // The bound of the benchmark is 2 ms; here a machine that stands still for a while must not count.
    for (const ms of effectMs) assert.ok(ms < 100, `the rule took effect ${ms} ms after the answer`);
  });
});
