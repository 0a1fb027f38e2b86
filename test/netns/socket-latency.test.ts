// SPDX-License-Identifier: Apache-2.0
/** The time from XDP entry to the queue of real sockets. */
import assert from 'node:assert/strict';
import type { AttachedDevice } from '../../src/app/attached-device.ts';
import { daemonDefaults } from '../../src/config/daemon.ts';
import { summarizeLatency } from '../../src/telemetry/counters.ts';
import { isUnavailable } from '../../src/telemetry/metrics/part.ts';
import { type SocketProto, socketProtos } from '../../src/telemetry/traces/socket-times.ts';
import { Setting } from '../rig/scenarios/setting.ts';
import { startSockets } from '../rig/sockets.ts';
import { createRig, type Rig } from '../rig/topology.ts';

describe('the time to the socket', function () {
  this.timeout(120_000);
  let rig: Rig;
  let setting: Setting;
  /** Held open, as a daemon does. */
  let device: AttachedDevice | null = null;

  before(() => {
    rig = createRig({ id: 'sock' });
  });
  beforeEach(() => {
    setting = new Setting(rig);
  });
  afterEach(() => {
    device?.close();
    device = null;
    setting?.dispose();
    setting?.controller.close();
  });
  after(() => rig?.dispose());

  const measureSockets = (isOn: boolean): void =>
    setting.controller.telemetry.configure({ ...daemonDefaults.telemetry, socketLatency: isOn });

  const look = () => {
    device ??= setting.controller.open(setting.device);
    const { latency, socketTimes } = device.sample();
    return { latency, socketTimes, place: placeOf(device) };
  };
  const placeOf = ({ dataplane }: AttachedDevice): number => dataplane.control.read(0).socketPlace;

  it('is measured for UDP and TCP, IPv4 and IPv6, of packets that were timed to the CPU', async () => {
    measureSockets(true);
    setting.attach();
    assert.notEqual(look().place, 0);
    const count = (proto: SocketProto): bigint => {
      const times = look().socketTimes[proto];
      if (isUnavailable(times)) assert.fail(times.unavailable);
      return times.count;
    };
    const runs = socketProtos.flatMap((protocol) => [
      { protocol, family: 4 as const, port: 9304 },
      { protocol, family: 6 as const, port: 9306 },
    ]);
    const load = { az: 'az-a', connections: 4, messagesPerSecond: 500, messageBytes: 200 };
    const traffic = await Promise.all(runs.map((run) => startSockets(rig, { ...run, ...load })));
    while (count('tcp') < 10n || count('udp') < 10n) await new Promise((resolve) => setTimeout(resolve, 20));
    await Promise.all(traffic.map((each) => each.stop()));
    const { latency, socketTimes } = look();
    const { tcp, udp } = socketTimes;
    assert.ok(!isUnavailable(latency) && !isUnavailable(tcp) && !isUnavailable(udp));
    assert.ok(tcp.count + udp.count <= latency.count, `${tcp.count} and ${udp.count} of ${latency.count}`);
    for (const times of [tcp, udp]) {
      const { p50Ns } = summarizeLatency(times);
      assert.ok(p50Ns !== null && p50Ns > 0 && p50Ns < 1e9, `${p50Ns} ns`);
    }
  });

  it('is not measured unless it is asked for, and ends where the device is closed', () => {
    setting.attach();
    const { socketTimes: without } = look();
    assert.match(isUnavailable(without.tcp) ? without.tcp.unavailable : '', /only the daemon/);
    measureSockets(true);
    assert.notEqual(look().place, 0);
    measureSockets(false);
    const { socketTimes, place } = look();
    assert.equal(place, 0);
    assert.match(isUnavailable(socketTimes.udp) ? socketTimes.udp.unavailable : '', /socket_latency: true/);
    measureSockets(true);
    assert.notEqual(look().place, 0);
    device?.close();
    device = null;
    assert.equal(setting.controller.withDevice(setting.device, placeOf), 0);
  });
});
