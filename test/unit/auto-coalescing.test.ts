// SPDX-License-Identifier: Apache-2.0
/** What a daemon sets by the load of a device, and when it lets go. */
import assert from 'node:assert/strict';
import { AutoCoalescing, type CoalescedDevice } from '../../src/app/tuning/auto-coalescing.ts';
import type { InterruptDelay, Released, TuningStatus } from '../../src/app/tuning/device-tuning.ts';
import { VnicError } from '../../src/errors.ts';
import type { SettingName } from '../../src/loader/settings/setting.ts';
import { holdSettings, restoreSettings, type TunePorts } from '../../src/tune/interpreter.ts';
import { foreignSettings, type Holder, type Journal, type WantedSetting } from '../../src/tune/journal.ts';

class Setting {
  readonly values = new Map<SettingName, string>([
    ['gro_flush_timeout', '0'],
    ['napi_defer_hard_irqs', '0'],
  ]);
  journal: Journal = {
    device: { name: 'eth0', netns: null },
    bootId: '',
    ifindex: 1,
    settings: [],
    unsettled: [],
    ending: [],
  };
  readonly events: { type: string; data: Record<string, unknown> }[] = [];
  packets = 0n;
  nowMs = 0;
  refuseUsecs = false;
  interruptDelay: InterruptDelay | null = null;
  readonly device: CoalescedDevice = {
    record: { device: { name: 'eth0', netns: null } },
    config: { coalesceUsecs: 64, adaptiveCoalesce: true, adaptiveThreshold: 1000 },
    coalescing: null,
  };
  readonly auto = this.newDaemon();

  newDaemon(): AutoCoalescing<CoalescedDevice> {
    const read = (name: SettingName) => this.values.get(name) ?? null;
    const ports: TunePorts = {
      settings: {
        read,
        write: (name, value) => {
          if (name === 'coalesce/rx-usecs' && this.refuseUsecs) throw new VnicError('kernel_refused', 'EOPNOTSUPP');
          this.values.set(name, value);
        },
      },
      journal: { write: () => undefined },
    };
    return new AutoCoalescing({
      received: () => this.packets,
      publish: ({ type, data }) => this.events.push({ type, data }),
      controller: {
        heldOpen: () => [this.device],
        locked: (action) => action(),
        tuning: {
          status: (): TuningStatus => ({ held: [], foreign: foreignSettings(this.journal, read), interrupted: false }),
          hold: (_, by: Holder, wanted: readonly WantedSetting[]) => {
            this.journal = holdSettings(ports, this.journal, by, wanted);
          },
          restore: (_, by: readonly Holder[]): Released => {
            const restored = restoreSettings(ports, this.journal, by, false);
            this.journal = restored.journal;
            return restored;
          },
          interruptDelay: () => this.interruptDelay ?? (this.values.has('coalesce/rx-usecs') ? 'ethtool' : 'napi'),
        },
      },
    });
  }

  /** Seconds of traffic, looked at twice a second. */
  traffic(packetsPerSecond: number, seconds: number, auto = this.auto): void {
    for (let look = 0; look < 2 * seconds; look++) {
      this.nowMs += 500;
      this.packets += BigInt(packetsPerSecond / 2);
      auto.run(this.nowMs);
    }
  }

  get napi(): string[] {
    return [this.values.get('gro_flush_timeout')!, this.values.get('napi_defer_hard_irqs')!];
  }
}

describe('adaptive coalescing of a daemon', () => {
  it('sets by the load, tells each change, and puts back what was there when it is quiet', () => {
    const setting = new Setting();
    setting.values.set('gro_flush_timeout', '9000');
    setting.traffic(100, 5);
    assert.deepEqual([setting.napi, setting.events], [['9000', '0'], []]);
    setting.traffic(100_000, 5);
    assert.deepEqual(setting.napi, ['64000', '2']);
    // 2500 a second would lead up to 16 us only, but not yet down to it.
    setting.traffic(2500, 5);
    assert.deepEqual(setting.napi, ['32000', '2']);
    const { delayUsecs, packetsPerSecond, changes, via, stopped } = setting.device.coalescing!;
    assert.deepEqual(
      { delayUsecs, packetsPerSecond, changes, via, stopped },
      { delayUsecs: 32, packetsPerSecond: 2500, changes: 2, via: 'napi', stopped: null },
    );
    setting.traffic(0, 5);
    assert.deepEqual(setting.napi, ['9000', '0']);
    assert.deepEqual(setting.journal.settings, []);
    assert.deepEqual(
      setting.events.map(({ type, data }) => [type, data['fromUsecs'], data['toUsecs']]),
      [
        ['coalescing.changed', 0, 64],
        ['coalescing.changed', 64, 32],
        ['coalescing.changed', 32, 0],
      ],
    );
  });

  it('goes by ethtool where the device delays interrupts itself, and by NAPI where it refuses to', () => {
    for (const refuseUsecs of [false, true]) {
      const setting = new Setting();
      setting.values.set('coalesce/rx-usecs', '3');
      setting.values.set('coalesce/adaptive-rx', 'on');
      setting.refuseUsecs = refuseUsecs;
      setting.traffic(100_000, 3);
      const ethtool = [setting.values.get('coalesce/rx-usecs'), setting.values.get('coalesce/adaptive-rx')];
      assert.deepEqual(ethtool, refuseUsecs ? ['3', 'on'] : ['64', 'off']);
      assert.deepEqual(setting.napi, refuseUsecs ? ['64000', '2'] : ['0', '0']);
      setting.traffic(0, 5);
      assert.deepEqual(
        [setting.values.get('coalesce/rx-usecs'), setting.values.get('coalesce/adaptive-rx')],
        ['3', 'on'],
      );
      assert.deepEqual(setting.napi, ['0', '0']);
    }
  });

  it('delays nothing where the device raises no interrupts, and tells the load', () => {
    const setting = new Setting();
    setting.interruptDelay = 'none';
    setting.traffic(100_000, 5);
    const { delayUsecs, packetsPerSecond, via, stopped } = setting.device.coalescing!;
    assert.deepEqual([delayUsecs, packetsPerSecond, via, stopped], [0, 100_000, 'none', null]);
    assert.deepEqual([setting.napi, setting.events], [['0', '0'], []]);
  });

  it('is off by one switch, by coalesce_usecs 0, and when the daemon ends', () => {
    for (const off of [{ adaptiveCoalesce: false }, { coalesceUsecs: 0 }]) {
      const setting = new Setting();
      setting.traffic(100_000, 3);
      Object.assign(setting.device.config, off);
      setting.traffic(100_000, 1);
      assert.deepEqual([setting.napi, setting.device.coalescing], [['0', '0'], null]);
    }
    const ended = new Setting();
    ended.traffic(100_000, 3);
    ended.auto.end();
    assert.deepEqual(ended.napi, ['0', '0']);
  });

  it('stops where somebody else sets the same, leaves that, and tells it once', () => {
    const setting = new Setting();
    setting.traffic(100_000, 3);
    setting.values.set('gro_flush_timeout', '1234');
    setting.traffic(0, 10);
    assert.deepEqual(setting.napi, ['1234', '2']);
    assert.match(setting.device.coalescing?.stopped ?? '', /gro_flush_timeout to 1234/);
    assert.equal(setting.events.filter(({ type }) => type === 'coalescing.stopped').length, 1);
  });

  it('finds what a killed daemon left, and puts it back before it begins', () => {
    const setting = new Setting();
    setting.traffic(100_000, 3);
    const next = setting.newDaemon();
    setting.traffic(0, 1, next);
    assert.deepEqual(setting.napi, ['0', '0']);
    assert.deepEqual(setting.journal.settings, []);
  });
});
