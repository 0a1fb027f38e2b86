// SPDX-License-Identifier: Apache-2.0
/** vnicctl tune on a veth pair: XPS, RPS and NAPI settings are real there, and all of them come back. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { openController } from '../../src/app/environment.ts';
import { onlineCpus } from '../../src/app/machine.ts';
import { DeviceTuning } from '../../src/app/tuning/device-tuning.ts';
import { restoreTuning, tuneDevice } from '../../src/app/tuning/tune-device.ts';
import { parseDevice } from '../../src/config/device.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { DeviceSettings } from '../../src/loader/settings/device-settings.ts';
import type { SettingName } from '../../src/loader/settings/setting.ts';
import { Sysfs } from '../../src/loader/sysfs.ts';
import { CliRig } from '../support/cli.ts';
import { thrownBy } from '../support/thrown.ts';

interface TuneResult {
  performed: boolean;
  settings: { name: string; from: string | null; to: string; why: string }[];
  queueCpus: number[];
  held: { name: string; before: string; now: string; by: string[] }[];
  foreign: { name: string }[];
  interrupted: boolean;
}

/** Of the machine: planned for what is attached where its governor is haltpoll and the value is below 200000. */
const haltPolling = 'guest_halt_poll_ns';

const fixed = { adaptive_coalesce: false, coalesce_usecs: 50 };

describe('vnicctl tune', function () {
  this.timeout(180_000);
  let rig: CliRig;
  let config: string;

  before(() => {
    rig = new CliRig('tune');
    config = path.join(rig.folder, 'vnic.yaml');
    execFileSync('tee', [config], {
      input: 'devices: {vnic0: {adaptive_coalesce: false, coalesce_usecs: 50}}\n',
      stdio: ['pipe', 'ignore', 'inherit'],
    });
  });
  after(() => {
    rig.run(['detach', 'vnic0', '--force']);
    rig[Symbol.dispose]();
  });

  /** Every file of the device in its namespace's own sysfs that is a setting, as the kernel writes it. */
  function readings(): string {
    using sysfs = new Sysfs(loadNative(), rig.guest);
    const folder = `${sysfs.path}/class/net/vnic0`;
    const queues = readdirSync(`${folder}/queues`).flatMap((queue) =>
      readdirSync(`${folder}/queues/${queue}`)
        .filter((file) => /^(?:xps|rps)_/.test(file))
        .map((file) => `queues/${queue}/${file}`),
    );
    const files = ['gro_flush_timeout', 'napi_defer_hard_irqs', ...queues.sort()];
    return files.map((file) => `${file} ${readFileSync(`${folder}/${file}`, 'utf8')}`).join('');
  }

  function setByHand(name: SettingName, value: string): void {
    using settings = new DeviceSettings(loadNative(), { name: 'vnic0', netns: rig.guest });
    settings.write(name, value);
  }

  /** As the commands do it, in this process: a command costs a second on a busy machine. */
  function tune(asked: object | null = fixed, dryRun = false) {
    const config = asked === null ? {} : { config: parseDevice('vnic0', asked) };
    return tuneDevice(openController({ VNIC_STATE_DIR: rig.stateFolder }), device(), { ...config, dryRun });
  }
  const restore = (force = false) =>
    restoreTuning(openController({ VNIC_STATE_DIR: rig.stateFolder }), device(), force);
  const device = () => ({ name: 'vnic0', netns: rig.guest });

  const journals = () => {
    const folder = path.join(rig.stateFolder, 'settings');
    return existsSync(folder) ? readdirSync(folder) : [];
  };

  it('plans without changing anything, and says from what, to what, and why', () => {
    const before = readings();
    const plan = rig.json<TuneResult>(['tune', 'vnic0', '--plan', '--config', config]);
    assert.equal(plan.performed, false);
    assert.deepEqual(plan.queueCpus.length, 32);
    const cpus = onlineCpus().length;
    const perCpu = onlineCpus().map(({ cpu }) => plan.queueCpus.filter((other) => other === cpu).length);
    assert.ok(Math.max(...perCpu) - Math.min(...perCpu) <= 1, `${cpus} CPUs have ${perCpu.join(' ')} queues`);
    const flush = plan.settings.find(({ name }) => name === 'gro_flush_timeout');
    assert.deepEqual([flush?.from, flush?.to], ['0', '50000']);
    assert.equal(plan.settings.filter(({ name }) => name.endsWith('xps_cpus')).length, 32);
    const text = rig.ok(['tune', 'vnic0', '--config', config]);
    assert.match(text, /would set 34 settings\nSETTING +FROM +TO +WHY\n/);
    assert.match(text, /^gro_flush_timeout +0 +50 000|^gro_flush_timeout +0 +50000/m);
    assert.equal(readings(), before);
    assert.deepEqual(journals(), []);
  });

  it('sets what it planned, and puts all of it back', () => {
    setByHand('tx-4/xps_cpus', '0');
    setByHand('rx-2/rps_flow_cnt', '256');
    const before = readings();
    const done = rig.json<TuneResult>(['tune', 'vnic0', '--apply', '--config', config]);
    assert.equal(done.held.length, done.settings.length);
    assert.deepEqual(done.held.map(({ now }) => now).sort(), done.settings.map(({ to }) => to).sort());
    assert.notEqual(readings(), before);
    assert.deepEqual(tune(fixed, true).settings, []);
    assert.match(rig.ok(['--dry-run', 'tune', 'vnic0', '--restore']), /would put back \d+ settings\nSETTING/);
    assert.match(rig.ok(['tune', 'vnic0', '--restore']), /\d+ settings put back/);
    assert.equal(readings(), before);
    assert.deepEqual(journals(), []);
    assert.deepEqual(restore().restored, []);
  });

  it('attached, clears what is in the way of the dataplane; detaching puts back what tuning changed', () => {
    setByHand('rx-2/rps_cpus', '0-1');
    const before = readings();
    rig.ok(['attach', 'vnic0']);
    const { settings } = tune(null);
    const to = new Map(settings.map((setting) => [setting.name, setting.to]));
    assert.equal(to.get('rx-2/rps_cpus'), '');
    assert.equal(to.get('rx-2/rps_flow_cnt'), '0');
    assert.ok(!/xps_cpus [0,]*[1-9a-f]/.test(readings()), 'XPS is still on');
    assert.match(thrownBy(() => tune()).message, /is attached/);
    rig.ok(['detach', 'vnic0']);
    assert.equal(readings(), before);
    assert.deepEqual(journals(), []);
  });

  it('leaves what somebody else has set since, says so, and overwrites it when forced', () => {
    const before = readings();
    tune();
    setByHand('gro_flush_timeout', '7000');
    assert.deepEqual(
      tune(fixed, true).foreign.map(({ name, now }) => [name, now]),
      [['gro_flush_timeout', '7000']],
    );
    const left = rig.run(['tune', 'vnic0', '--restore']);
    assert.equal(left.code, 6, left.stderr);
    assert.match(left.stderr, /left: gro_flush_timeout was set to 50000, but somebody has set it to 7000 since/);
    assert.equal(readings(), before.replace('gro_flush_timeout 0', 'gro_flush_timeout 7000'));
    setByHand('gro_flush_timeout', '0');
    tune();
    setByHand('gro_flush_timeout', '7000');
    assert.deepEqual(restore(true).foreign, []);
    assert.equal(readings(), before);
  });

  it('forgets what it changed on a device that is gone: another one with its name is not touched', () => {
    tune();
    rig.removeDevice();
    assert.equal(thrownBy(() => restore()).code, 'not_found');
    rig.addDevice();
    const fresh = readings();
    assert.deepEqual(restore().restored, []);
    assert.equal(readings(), fresh);
    assert.deepEqual(journals(), []);
  });

  it('killed between any two writes, leaves what --restore puts back', () => {
    const before = readings();
    const { settings } = tune(fixed, true);
    const places = [0, 1, 17, settings.length - 1, settings.length];
    for (const writes of places) {
      // A process of its own, which dies in the middle by kill -9.
      const script = `
        import { DeviceTuning } from '${import.meta.dirname}/../../src/app/tuning/device-tuning.ts';
        import { loadNative } from '${import.meta.dirname}/../../src/loader/ffi/index.ts';
        import { DeviceSettings } from '${import.meta.dirname}/../../src/loader/settings/device-settings.ts';
        let left = ${writes};
        const write = DeviceSettings.prototype.write;
        DeviceSettings.prototype.write = function (name, value) {
          if (left-- === 0) process.kill(process.pid, 'SIGKILL');
          write.call(this, name, value);
        };
        const tuning = new DeviceTuning(loadNative(), '${rig.stateFolder}');
        tuning.hold(${JSON.stringify(device())}, 'tune', ${JSON.stringify(settings)});
        process.kill(process.pid, 'SIGKILL');
      `;
      assert.throws(
        () => execFileSync(process.execPath, ['--input-type=module-typescript', '-e', script], { stdio: 'pipe' }),
        {
          signal: 'SIGKILL',
        },
      );
      assert.equal(journals().length, 1, `after ${writes} writes`);
      const tuning = new DeviceTuning(loadNative(), rig.stateFolder);
      assert.equal(tuning.status(device()).interrupted, writes < settings.length);
      const { foreign, failed } = tuning.restore(device(), ['tune']);
      assert.deepEqual([foreign, failed], [[], []], `after ${writes} writes`);
      assert.equal(readings(), before, `after ${writes} writes`);
    }
  });

  it('killed at any time, is put back by the next --restore', async () => {
    const before = readings();
    const started = performance.now();
    rig.ok(['tune', 'vnic0', '--apply', '--config', config]);
    const applyMs = performance.now() - started;
    restore();
    for (const [command, share] of [
      ['--apply', 0.7],
      ['--apply', 0.9],
      ['--restore', 0.8],
      ['--apply', 1],
    ] as const) {
      const { child, done } = rig.start(['tune', 'vnic0', command]);
      await new Promise((resolve) => setTimeout(resolve, applyMs * share));
      child.kill('SIGKILL');
      await done;
      restore();
      assert.equal(readings(), before, `${command} killed after ${share} of ${applyMs.toFixed(0)} ms`);
      tune();
    }
    restore();
  });

  it('a detach that was killed is finished by whatever command comes next', () => {
    const before = readings();
    rig.ok(['attach', 'vnic0']);
    setByHand('rx-9/rps_cpus', '0');
    tune(null);
    const tuning = new DeviceTuning(loadNative(), rig.stateFolder);
    // Killed before it took the dataplane off: nothing has happened.
    tuning.end(device());
    const held = tune(null, true).held.map(({ name }) => name);
    assert.deepEqual(
      held.filter((name) => name !== haltPolling),
      ['rx-9/rps_cpus'],
    );
    assert.deepEqual(tune(null, true).settings, []);
    rig.ok(['detach', 'vnic0']);
    assert.match(readings(), /rx-9\/rps_cpus [0,]*1$/m);
    setByHand('rx-9/rps_cpus', '');
    assert.equal(readings(), before);
    // Killed after it.
    tune();
    tuning.end(device());
    openController({ VNIC_STATE_DIR: rig.stateFolder }).locked(() => undefined);
    assert.equal(readings(), before);
    assert.deepEqual(journals(), []);
  });

  it('enable_zero_copy refuses generic mode, and leaving it out does not', () => {
    const controller = openController({ VNIC_STATE_DIR: rig.stateFolder });
    const attach = (input: object) =>
      controller.attach(device(), { mode: 'generic', dryRun: true, config: parseDevice('vnic0', input) });
    const refused = thrownBy(() => attach({ enable_zero_copy: true }));
    assert.deepEqual([refused.code, refused.exitCode], ['policy_refused', 3]);
    assert.equal(attach({}).performed, false);
    assert.equal(attach({ enable_zero_copy: false }).mode, 'generic');
  });

  it('says what is wrong with how it is asked', () => {
    assert.match(rig.refused(2, ['tune', 'vnic0', '--plan', '--apply']).lines[0]!, /exclude each other/);
    assert.match(rig.refused(2, ['tune', 'vnic0', '--force']).lines[0]!, /--force goes with --restore/);
    assert.match(thrownBy(() => tune({ numa_node: 900 })).message, /NUMA node 900/);
    assert.equal(rig.run(['tune', 'nosuch']).code, 4);
  });
});
