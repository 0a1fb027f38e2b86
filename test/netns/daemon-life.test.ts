// SPDX-License-Identifier: Apache-2.0
/** A daemon's life: alone on its state, started, reloaded and stopped by a service manager, and survived by its dataplane. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FileLock } from '../../src/loader/lock.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { PinFolder } from '../../src/loader/pins.ts';
import { readCounters } from '../../src/telemetry/counters.ts';
import { vnicctl } from '../support/cli.ts';
import { SurvivalRig, until } from '../support/survival.ts';
import { NotifyReceiver } from '../support/survival-notify.ts';

const CONFLICT = 6;
const MACHINE_LOCK = '/run/vnic/vnicctl.lock';

describe('a daemon', function () {
  this.timeout(600_000);
  let rig: SurvivalRig;

  before(async () => {
    rig = await SurvivalRig.start('life');
    await rig.attach({ rules: [{ id: 1, action: 'drop', match: { src: '10.0.0.1' } }] });
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  it('is alone on its state: a second one ends with exit code 6 and names the first', () => {
    const second = spawnSync(vnicctl, ['serve'], {
      encoding: 'utf8',
      env: {
        ...process.env,
        VNIC_STATE_DIR: rig.daemon.stateFolder,
        VNIC_SOCKET: path.join(rig.daemon.folder, 'second.sock'),
        EXPORTER_PORT: '0',
      },
    });
    assert.equal(second.status, CONFLICT, second.stderr + second.stdout);
    assert.match(second.stderr, new RegExp(`process ${rig.daemon.pid}\\b`));
  });

  it('keeps commands that look for it elsewhere from changing its state', () => {
    const env = { VNIC_STATE_DIR: rig.daemon.stateFolder, VNIC_SOCKET: path.join(rig.daemon.folder, 'none.sock') };
    const { problem } = rig.rig.refused(CONFLICT, ['rule', 'add', '--id', '5'], { env });
    assert.match(problem.detail, new RegExp(`process ${rig.daemon.pid}\\b`));
    assert.match(problem.remedy ?? '', /--socket/);
  });

  /** Answers to pings come, and the dataplane steered them. */
  function expectForwarding(): void {
    using dataplane = rig.dataplane();
    const before = readCounters(dataplane).redirected;
    rig.rig.send({ fromPort: 4001, toPort: 5001, packets: 3, bytes: 100 });
    assert.ok(readCounters(dataplane).redirected >= before + 3n);
    assert.ok('xdp' in rig.rig.link());
  }

  it('that is stopped ends with exit code 0, and packets are steered on', async () => {
    assert.equal(await rig.daemon.stop(), 0);
    expectForwarding();
    await rig.daemon.run();
    assert.deepEqual(await rig.ruleIds(), [1]);
  });

  it('that is killed leaves packets steered on', async () => {
    await rig.daemon.kill();
    expectForwarding();
    await rig.daemon.run();
    assert.deepEqual(await rig.ruleIds(), [1]);
  });

  it('tells a service manager when it is ready, alive, reloading and stopping', async () => {
    assert.equal(await rig.daemon.stop(), 0);
    const socket = path.join(rig.daemon.folder, 'notify');
    using receiver = new NotifyReceiver(socket);
    const env = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '400000' };
    const started = await (async () => {
      // Adopting takes the lock.
      using _lock = FileLock.acquire(rig.native, MACHINE_LOCK, 60_000);
      const running = rig.daemon.run(env);
      await until('the daemon says what it waits for', () => receiver.count('STATUS=devices are being adopted') === 1);
      await sleep(500);
      assert.equal(receiver.count('READY=1'), 0, 'ready before its devices were adopted');
      assert.equal((await rig.daemon.send('GET', '/readyz')).status, 503);
      return { running };
    })();
    await started.running;
    await until('it is ready', () => receiver.count('READY=1') === 1);
    assert.equal(receiver.read().filter((message) => message.startsWith('READY=1'))[0], 'READY=1\nSTATUS=ready');
    await until('it shows that it is alive', () => receiver.count('WATCHDOG=1') >= 3);

    rig.daemon.signal('SIGHUP');
    await until('it is ready again', () => receiver.count('READY=1') === 2);
    const messages = receiver.read();
    const reloading = messages.findIndex((message) => /^RELOADING=1\nMONOTONIC_USEC=\d+$/.test(message));
    assert.ok(reloading >= 0 && reloading < messages.findLastIndex((message) => message.startsWith('READY=1')));
    assert.equal(receiver.count('STOPPING=1'), 0);
    assert.equal(await rig.daemon.stop(), 0);
    assert.equal(receiver.count('STOPPING=1'), 1);
    const after = receiver.read().slice(receiver.read().indexOf('STOPPING=1') + 1);
    assert.deepEqual(after, [], 'said after it was stopping');
    await rig.daemon.run();
  });
});

describe('a daemon with a configuration file', function () {
  this.timeout(600_000);
  let rig: SurvivalRig;
  /** In no named namespace, as the daemon sees it; pins are the machine's, so the name is of this test alone. */
  const device = `vs${process.pid}`;
  const url = `/api/v1/devices/${device}`;

  before(async () => {
    rig = await SurvivalRig.start('conf');
    rig.addVeth({ name: device, peer: 'peer1', mac: '19:01' });
    await rig.daemon.stop();
  });
  after(async () => {
    await rig?.daemon.kill();
    new PinFolder(rig.native, { name: device, netns: null }).remove();
    await rig?.[Symbol.asyncDispose]();
  });

  function configure(ids: readonly number[]): void {
    const rules = ids.map((id) => ({ id, action: 'drop', match: { src: `10.0.0.${id}` } }));
    rig.daemon.configure({ devices: JSON.stringify({ [device]: { num_queues: 32, rules } }) });
  }

  const runInside = (): Promise<void> => inNetns(rig.native, rig.rig.guest, () => rig.daemon.run());

  async function ids(): Promise<number[]> {
    const { items } = await rig.ask<{ items: { id: number }[] }>('GET', `${url}/rules`);
    return items.map(({ id }) => id).sort((a, b) => a - b);
  }

  const reloads = (): number => rig.daemon.events('config.reloaded').length;

  async function reload(): Promise<void> {
    const before = reloads();
    rig.daemon.signal('SIGHUP');
    await until('it is reloaded', () => reloads() === before + 1);
  }

  it('attaches at the start what the file names', async () => {
    configure([1, 2]);
    await runInside();
    await rig.event('device.attached', 1, device);
    assert.deepEqual(await ids(), [1, 2]);
    const { drift } = await rig.ask<{ drift: unknown[] }>('GET', url);
    assert.deepEqual(drift, []);
  });

  it('told to reload a file that says the same, leaves what was changed over the API', async () => {
    assert.equal((await rig.send('PUT', `${url}/rules/7`, { body: { action: 'drop' } })).status, 201);
    await reload();
    // Written otherwise, it still says the same.
    configure([1, 2]);
    writeFileSync(rig.daemon.configFile, '# a comment\n', { flag: 'a' });
    await reload();
    assert.deepEqual(await ids(), [1, 2, 7]);
    assert.deepEqual(rig.events('config.applied', device), []);
  });

  it('told to reload a file that says something else, makes it so', async () => {
    configure([1, 3]);
    await reload();
    await rig.event('config.applied', 1, device);
    assert.deepEqual(await ids(), [1, 3]);
    const { rule } = await rig.ask<{ rule: number | null }>('POST', `${url}/explain`, {
      body: { src: '10.0.0.3', dst: '10.9.0.1', proto: 'udp', srcPort: 1, dstPort: 2 },
    });
    assert.equal(rule, 3);
  });

  it('told to reload a broken file, says so and changes nothing', async () => {
    for (const [count, text] of [
      'devices: [',
      `devices: {${device}: {rules: [{id: 0}]}}`,
      'daemon: {tls: 7}',
    ].entries()) {
      writeFileSync(rig.daemon.configFile, text);
      const before = reloads();
      rig.daemon.signal('SIGHUP');
      await until('it is refused', () => rig.daemon.events('config.refused').length === count + 1);
      const refused = rig.daemon.events('config.refused').at(-1);
      assert.ok(String(refused?.['message']).length > 0);
      assert.equal(reloads(), before);
      assert.deepEqual(await ids(), [1, 3]);
      assert.equal((await rig.daemon.send('GET', '/readyz')).status, 200);
    }
  });

  it('started again with a file that it applied already, keeps what was changed over the API', async () => {
    configure([1, 3]);
    assert.equal((await rig.send('PUT', `${url}/rules/8`, { body: { action: 'drop' } })).status, 201);
    await rig.daemon.kill();
    await runInside();
    assert.deepEqual(await ids(), [1, 3, 8]);
    assert.equal(rig.events('config.applied', device).length, 1);
  });

  it('attaches a device of the file that comes later than the daemon', async () => {
    const late = `vl${process.pid}`;
    rig.daemon.configure({ devices: JSON.stringify({ [late]: { rules: [{ id: 9, action: 'drop' }] } }) });
    await reload();
    await until('its absence is told', () =>
      rig.daemon.events('device.absent').some((event) => event['device'] === late),
    );
    rig.addVeth({ name: late, peer: 'peer2', mac: '19:02' });
    try {
      await until('it is attached', () =>
        rig.daemon.events('device.attached').some((event) => event['device'] === late),
      );
      const { items } = await rig.ask<{ items: { id: number }[] }>('GET', `/api/v1/devices/${late}/rules`);
      assert.deepEqual(
        items.map(({ id }) => id),
        [9],
      );
    } finally {
      await rig.send('DELETE', `/api/v1/devices/${late}`);
      rig.removeVeth(late);
      new PinFolder(rig.native, { name: late, netns: null }).remove();
    }
  });

  it('leaves alone a device that the file names no more', async () => {
    rig.daemon.configure({});
    await reload();
    assert.deepEqual(await ids(), [1, 3, 8]);
  });
});
