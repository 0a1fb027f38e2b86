// SPDX-License-Identifier: Apache-2.0
/**
 * How long a virtual CPU polls before it halts (Documentation/virt/guest-halt-polling.rst). To wake one that has halted takes
 * an interrupt by way of the hypervisor.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

const DRIVER = '/sys/devices/system/cpu/cpuidle/current_driver';
const SETTING = '/sys/module/haltpoll/parameters/guest_halt_poll_ns';
/** Null, or why it cannot be set on this machine. */
export function withoutHaltPoll(): string | null {
  const driver = existsSync(DRIVER) ? readFileSync(DRIVER, 'utf8').trim() : 'none';
  if (driver !== 'haltpoll') return `the cpuidle driver is ${driver}, not haltpoll`;
  return existsSync(SETTING) ? null : `there is no ${SETTING}`;
}

/** Until it is disposed of. */
export function setHaltPoll(ns: number): Disposable {
  const before = readFileSync(SETTING, 'utf8').trim();
  writeFileSync(SETTING, String(ns));
  return { [Symbol.dispose]: () => writeFileSync(SETTING, before) };
}
