// SPDX-License-Identifier: Apache-2.0
/** A daemon delays interrupts under load, says so, and leaves the settings as they were: when quiet, detached, ended or killed. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { DeviceSettings } from '../../src/loader/settings/device-settings.ts';
import { SurvivalRig, until } from '../support/survival.ts';

describe('a daemon that adapts coalescing', function () {
  this.timeout(180_000);
  let rig: SurvivalRig;
  let load: ChildProcess | null = null;

  before(async () => {
    rig = await SurvivalRig.start('coal');
  });
  after(async () => {
    endLoad();
    await rig?.[Symbol.asyncDispose]();
  });

  function napi(): (string | null)[] {
    using settings = new DeviceSettings(rig.native, { name: 'vnic0', netns: rig.rig.guest });
    return [settings.read('gro_flush_timeout'), settings.read('napi_defer_hard_irqs')];
  }

  function beginLoad(): void {
    // Some thousand packets a second, for as long as the test lets it.
    const script = `
      const socket = require('node:dgram').createSocket('udp4');
      setInterval(() => { for (let n = 0; n < 10; n++) socket.send('load', 9, '10.9.0.1'); }, 2);
    `;
    load = spawn('nsenter', [`--net=/run/netns/${rig.rig.peer}`, process.execPath, '-e', script], { stdio: 'ignore' });
  }

  function endLoad(): void {
    load?.kill('SIGKILL');
    load = null;
  }

  const isDelaying = () => napi()[0] !== '0';

  it('begins under load, is seen in status and metrics, and ends when it is quiet', async () => {
    await rig.attach({ num_queues: 32, adaptive_threshold: 50, coalesce_usecs: 80 });
    assert.deepEqual(napi(), ['0', '0']);
    beginLoad();
    await until('interrupts are delayed', isDelaying);
    assert.match(napi().join(' '), /^(10|20|40|80)000 2$/);
    const { coalescing } = await rig.ask<{ coalescing: { via: string; delayUsecs: number; stopped: null } }>(
      'GET',
      rig.url(),
    );
    assert.equal(coalescing.via, 'napi');
    assert.ok(coalescing.delayUsecs > 0);
    await until('the metric says so', async () => {
      const { text } = await rig.send('GET', '/metrics');
      return /virtio_nic_coalesce_delay_seconds\{[^}]*\} [1-9.e-]/.test(text);
    });
    assert.ok(rig.daemon.events('coalescing.changed').length > 0);
    endLoad();
    await until('it is quiet', () => !isDelaying());
    assert.deepEqual(napi(), ['0', '0']);
  });

  it('killed under load, leaves what the next one puts back', async () => {
    beginLoad();
    await until('interrupts are delayed', isDelaying);
    await rig.daemon.kill();
    endLoad();
    assert.ok(isDelaying());
    await rig.daemon.run();
    await until('it is put back', () => !isDelaying());
    assert.deepEqual(napi(), ['0', '0']);
  });

  it('stopped under load, puts back what was there before', async () => {
    beginLoad();
    await until('interrupts are delayed', isDelaying);
    assert.equal(await rig.daemon.stop(), 0);
    assert.deepEqual(napi(), ['0', '0']);
    await rig.daemon.run();
  });

  it('detached under load, too', async () => {
    await until('interrupts are delayed', isDelaying);
    assert.equal((await rig.send('DELETE', rig.url())).status, 200);
    assert.deepEqual(napi(), ['0', '0']);
    endLoad();
  });
});
