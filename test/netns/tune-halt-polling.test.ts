// SPDX-License-Identifier: Apache-2.0
/** vnicctl tune and guest_halt_poll_ns of this machine, which two devices share. It is put back in any case. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { openController } from '../../src/app/environment.ts';
import { onlineCpus } from '../../src/app/machine.ts';
import { restoreTuning, tuneDevice } from '../../src/app/tuning/tune-device.ts';
import { CliRig } from '../support/cli.ts';
import { skip } from '../support/skip.ts';

const haltPolling = 'guest_halt_poll_ns';

describe('vnicctl tune and the time that idle CPUs poll', function () {
  this.timeout(120_000);
  const file = `/sys/module/haltpoll/parameters/${haltPolling}`;
  const now = () => readFileSync(file, 'utf8').trim();
  let found: string | null = null;
  let first: CliRig;
  let second: CliRig;

  before(function () {
    const idle = ['driver', 'governor'].map((what) => `/sys/devices/system/cpu/cpuidle/current_${what}`);
    const isGuest = idle.every((path) => existsSync(path) && readFileSync(path, 'utf8').trim() === 'haltpoll');
    if (!isGuest || !existsSync(file)) skip(this, 'the cpuidle driver and governor of this machine are not haltpoll');
    if (onlineCpus().length < 2) skip(this, 'there is one CPU only');
    found = now();
    first = new CliRig('halt-1');
    second = new CliRig('halt-2');
  });
  beforeEach(() => {
    writeFileSync(file, '0');
    for (const rig of [first, second]) run(rig, 'attach', 'vnic0');
  });
  afterEach(() => {
    for (const rig of found === null ? [] : [first, second]) rig.run(['detach', 'vnic0', '--force'], { env: env() });
  });
  after(() => {
    if (found === null) return;
    writeFileSync(file, found);
    second[Symbol.dispose]();
    first[Symbol.dispose]();
  });

  /** Both devices are those of one machine. */
  const env = () => ({ VNIC_STATE_DIR: first.stateFolder });
  const run = (rig: CliRig, ...args: string[]) => rig.ok(args, { env: env() });
  const controller = () => openController(env());
  const deviceOf = (rig: CliRig) => ({ name: 'vnic0', netns: rig.guest });
  const planned = (rig: CliRig) =>
    tuneDevice(controller(), deviceOf(rig), { dryRun: true }).settings.filter(({ name }) => name === haltPolling);
  const journals = () => readdirSync(path.join(first.stateFolder, 'settings'));

  it('sets it while packets are handed to other CPUs, and puts it back by --restore and by detach', () => {
    assert.match(run(first, 'tune', 'vnic0', '--plan'), /guest_halt_poll_ns +0 +200000 +to wake a halted CPU takes/);
    assert.equal(now(), '0');
    run(first, 'tune', 'vnic0', '--apply');
    assert.equal(now(), '200000');
    assert.deepEqual(planned(first), []);
    run(first, 'tune', 'vnic0', '--restore');
    assert.equal(now(), '0');
    run(first, 'tune', 'vnic0', '--apply');
    run(first, 'detach', 'vnic0');
    assert.equal(now(), '0');
    assert.deepEqual(planned(first), []);
    assert.deepEqual(journals(), []);
  });

  it('leaves a higher value alone, and one that somebody else has set since', () => {
    writeFileSync(file, '300000');
    assert.deepEqual(planned(first), []);
    writeFileSync(file, '0');
    run(first, 'tune', 'vnic0', '--apply');
    writeFileSync(file, '300000');
    assert.deepEqual(
      restoreTuning(controller(), deviceOf(first), false).foreign.map((setting) => [setting.name, setting.now]),
      [[haltPolling, '300000']],
    );
    assert.equal(now(), '300000');
  });

  it('stays while one of two devices holds it, and goes back with the last, in either order', () => {
    for (const [one, two] of [
      [first, second],
      [second, first],
    ] as const) {
      tuneDevice(controller(), deviceOf(first), {});
      assert.match(planned(second)[0]?.why ?? '', /another device has set it/);
      tuneDevice(controller(), deviceOf(second), {});
      assert.deepEqual([planned(first), planned(second)], [[], []]);
      assert.deepEqual(restoreTuning(controller(), deviceOf(one), false).foreign, []);
      assert.equal(now(), '200000');
      assert.deepEqual(restoreTuning(controller(), deviceOf(two), false).foreign, []);
      assert.equal(now(), '0');
      assert.deepEqual(journals(), []);
    }
  });

  it('goes back by whatever command comes next when the device is gone, or another one has its name', () => {
    for (const isBack of [false, true]) {
      tuneDevice(controller(), deviceOf(first), {});
      assert.equal(now(), '200000');
      first.removeDevice();
      if (isBack) first.addDevice();
      controller().locked(() => undefined);
      assert.equal(now(), '0');
      assert.deepEqual(journals(), []);
      if (!isBack) first.addDevice();
      first.run(['detach', 'vnic0', '--force'], { env: env() });
      run(first, 'attach', 'vnic0');
    }
  });

  it('comes back after a death before, and after, it is written', () => {
    for (const writes of [0, 1]) {
      const script = `
        import { DeviceTuning } from '${import.meta.dirname}/../../src/app/tuning/device-tuning.ts';
        import { loadNative } from '${import.meta.dirname}/../../src/loader/ffi/index.ts';
        import { DeviceSettings } from '${import.meta.dirname}/../../src/loader/settings/device-settings.ts';
        const write = DeviceSettings.prototype.write;
        DeviceSettings.prototype.write = function (name, value) {
          if (${writes} === 1) write.call(this, name, value);
          process.kill(process.pid, 'SIGKILL');
        };
        new DeviceTuning(loadNative(), '${first.stateFolder}').hold(
          ${JSON.stringify(deviceOf(first))}, 'tune', [{ name: '${haltPolling}', to: '200000' }]);
      `;
      assert.throws(
        () => execFileSync(process.execPath, ['--input-type=module-typescript', '-e', script], { stdio: 'pipe' }),
        { signal: 'SIGKILL' },
      );
      assert.equal(now(), writes === 0 ? '0' : '200000');
      assert.equal(journals().length, 1);
      assert.deepEqual(restoreTuning(controller(), deviceOf(first), false).foreign, []);
      assert.equal(now(), '0');
      assert.deepEqual(journals(), []);
    }
  });
});
