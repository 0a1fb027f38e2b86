// SPDX-License-Identifier: Apache-2.0
/**
 * A daemon does not delay the polling of a device that raises no interrupts, and puts back what an earlier one set. How it
 * delays those of a real device is tested in the guest (test/vm/guest/tuning.ts) and by itself (test/unit).
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { openController } from '../../src/app/environment.ts';
import { DeviceSettings } from '../../src/loader/settings/device-settings.ts';
import { napiCoalescing } from '../../src/tune/plan.ts';
import { attachChecker } from '../rig/checker.ts';
import { makeFlows } from '../rig/flows.ts';
import { startGenerator } from '../rig/generator.ts';
import { attachByDaemon, deviceOf } from '../rig/scenarios/daemon.ts';
import { createRig, type Rig } from '../rig/topology.ts';
import { TestDaemon } from '../support/daemon.ts';
import { until } from '../support/survival.ts';

interface Status {
  coalescing: { via: string; delayUsecs: number; packetsPerSecond: number; stopped: string | null };
}

describe('a daemon that adapts coalescing of a device without interrupts', function () {
  this.timeout(120_000);
  let rig: Rig;
  let daemon: TestDaemon;
  let url: string;

  before(async () => {
    rig = createRig({ id: 'coal' });
    daemon = await TestDaemon.start();
    url = `/api/v1/devices/${encodeURIComponent(deviceOf(rig))}`;
    await attachByDaemon(rig, daemon);
  });
  after(async () => {
    await daemon?.send('DELETE', `${url}?force=true`).catch(() => undefined);
    await daemon?.[Symbol.asyncDispose]();
    rig?.dispose();
  });

  function napi(): (string | null)[] {
    using settings = new DeviceSettings(rig.native, { name: rig.device, netns: rig.netns });
    return [settings.read('gro_flush_timeout'), settings.read('napi_defer_hard_irqs')];
  }

  /** As a daemon does it for a device with interrupts. */
  function setAsDaemon(): void {
    const wanted = napiCoalescing(64).map(([name, to]) => ({ name, to }));
    const controller = openController({ VNIC_STATE_DIR: daemon.stateFolder });
    const device = { name: rig.device, netns: rig.netns };
    controller.locked(() => controller.tuning.hold(device, 'coalescing', wanted));
  }

  const coalescing = async () => (await daemon.ask<Status>('GET', url)).coalescing;

  it('leaves it alone under load, and bursts that its ring just holds lose no packet', async function () {
    // A veth ring has 256 entries. The machine may stop one of two CPUs in the middle of a burst.
    this.retries(2);
    const flows = makeFlows({ azs: rig.azs.slice(0, 1), host: rig.host, count: 100 });
    using checker = attachChecker(rig, { flows });
    const generator = await startGenerator(rig, { flows, ratePps: 75_000, tickMs: 3, durationMs: 60_000 });
    await until('the daemon sees the load', async () => (await coalescing()).packetsPerSecond > 10_000);
    await sleep(3000);
    const under = await coalescing();
    assert.deepEqual([under.via, under.delayUsecs, under.stopped], ['none', 0, null]);
    assert.deepEqual(napi(), ['0', '0']);
    const sent = await generator.stop();
    await checker.settled(sent.sent);
    assert.ok(sent.sent > 100_000, `only ${sent.sent} packets were sent`);
    assert.equal(checker.report(sent.sentByFlow).lost, 0);
  });

  it('puts back what a daemon before it had set', async () => {
    await daemon.kill();
    setAsDaemon();
    assert.deepEqual(napi(), ['64000', '2']);
    await daemon.run();
    await until('it is put back', () => napi().join(' ') === '0 0');
    assert.equal((await coalescing()).delayUsecs, 0);
  });

  it('puts it back when the device is detached', async () => {
    setAsDaemon();
    assert.deepEqual(napi(), ['64000', '2']);
    await daemon.ask('DELETE', url);
    assert.deepEqual(napi(), ['0', '0']);
  });
});
