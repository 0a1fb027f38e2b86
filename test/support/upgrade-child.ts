// SPDX-License-Identifier: Apache-2.0
/**
 * Upgrades a device, and may kill itself on the way: right before or right after one of the calls that change something
 * in the kernel. It says "ready" before it begins and "done" after it.
 */
import { type UpgradePorts, upgradeDataplane } from '../../src/app/upgrade.ts';
import { loadNative } from '../../src/loader/ffi/index.ts';
import { type DeviceId, PinFolder } from '../../src/loader/pins.ts';
import { disturbed } from './maps.ts';

export interface UpgradePlan {
  device: DeviceId;
  settings: UpgradePorts['settings'];
  objectFile: string;
  /** 2n: before the call n, 2n + 1: after it; left out: never. */
  killAt?: number;
}

const real = loadNative();
real.setPrint(null);
let moment = 0;

function mayDie(killAt: number | undefined): void {
  if (moment++ === killAt) process.kill(process.pid, 'SIGKILL');
}

function watched<A extends unknown[], R>(killAt: number | undefined, call: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    mayDie(killAt);
    const result = call(...args);
    mayDie(killAt);
    return result;
  };
}

process.once('message', ({ device, settings, objectFile, killAt }: UpgradePlan) => {
  const { libbpf } = real;
  const native = disturbed(real, {
    bpf_map_update_elem: watched(killAt, libbpf.bpf_map_update_elem),
    bpf_link_update: watched(killAt, libbpf.bpf_link_update),
    bpf_tc_attach: watched(killAt, libbpf.bpf_tc_attach),
    bpf_obj_pin: watched(killAt, libbpf.bpf_obj_pin),
  });
  process.send?.('ready', () => {
    upgradeDataplane({ native, pins: new PinFolder(native, device), settings, objectFile });
    process.send?.('done', () => process.disconnect());
  });
});
