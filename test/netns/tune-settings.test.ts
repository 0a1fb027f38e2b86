// SPDX-License-Identifier: Apache-2.0
/** Settings of the host side, read and written on a veth pair: what our reader says against what the kernel's files say. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { DeviceSettings } from '../../src/loader/settings/device-settings.ts';
import { CliRig } from '../support/cli.ts';
import { thrownBy } from '../support/thrown.ts';

describe('settings of the host side', function () {
  this.timeout(60_000);
  let rig: CliRig;
  before(() => {
    rig = new CliRig('settings');
  });
  after(() => rig[Symbol.dispose]());

  const open = () => new DeviceSettings(loadNative(), { name: 'vnic0', netns: rig.guest });
  /** `ip netns exec` shows the namespace's own sysfs. */
  const file = (path: string) =>
    execFileSync('ip', ['netns', 'exec', rig.guest, 'cat', `/sys/class/net/vnic0/${path}`], { encoding: 'utf8' });

  it('are those of the device in its namespace, and are written as they are read', () => {
    using settings = open();
    assert.equal(settings.read('tx-3/xps_cpus'), '');
    settings.write('tx-3/xps_cpus', '0-1');
    settings.write('rx-5/rps_cpus', '1');
    settings.write('rx-5/rps_flow_cnt', '1024');
    settings.write('gro_flush_timeout', '64000');
    settings.write('napi_defer_hard_irqs', '2');
    assert.match(file('queues/tx-3/xps_cpus'), /^0*3$/m);
    assert.match(file('queues/rx-5/rps_cpus'), /^0*2$/m);
    assert.equal(file('queues/rx-5/rps_flow_cnt'), '1024\n');
    assert.equal(file('gro_flush_timeout'), '64000\n');
    assert.deepEqual(
      (['tx-3/xps_cpus', 'tx-2/xps_cpus', 'rx-5/rps_cpus', 'rx-5/rps_flow_cnt', 'napi_defer_hard_irqs'] as const).map(
        (name) => settings.read(name),
      ),
      ['0-1', '', '1', '1024', '2'],
    );
    settings.write('tx-3/xps_cpus', '');
    assert.equal(settings.read('tx-3/xps_cpus'), '');
  });

  it('that the device does not have read as null', () => {
    using settings = open();
    for (const name of ['rss/table', 'channels/combined', 'coalesce/rx-usecs', 'rings/rx', 'tx-32/xps_cpus'] as const) {
      assert.equal(settings.read(name), null, name);
    }
  });

  it('that are refused say which, and the errno', () => {
    using settings = open();
    const impossible = thrownBy(() => settings.write('tx-3/xps_cpus', '9000'));
    assert.equal(impossible.code, 'kernel_refused');
    assert.match(impossible.message, /tx-3\/xps_cpus .*(EINVAL|EOVERFLOW)/);
    assert.match(thrownBy(() => settings.write('tx-40/xps_cpus', '0')).message, /ENOENT/);
    const none = thrownBy(() => new DeviceSettings(loadNative(), { name: 'vnic0', netns: 'vnic-no-such' }));
    assert.equal(none.code, 'not_found');
  });
});
