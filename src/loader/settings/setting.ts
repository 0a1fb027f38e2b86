// SPDX-License-Identifier: Apache-2.0
/**
 * Settings of the host side of a device, by name. A name and a value are texts: as tables, JSON and the journal have them.
 * Files go by their kernel names (Documentation/networking/scaling.rst, Documentation/networking/napi.rst,
 * Documentation/virt/guest-halt-polling.rst).
 *
 * Values: sets of CPUs and of queues are lists (`0-3,8`, empty for none), the RSS table is the queue of each hash class
 * (`0,1,2,3,0,1`), `coalesce/adaptive-rx` is `on` or `off`, `gro_flush_timeout` and `guest_halt_poll_ns` are
 * in ns, `coalesce/rx-usecs` in µs, everything else counts.
 */

export const deviceSettings = [
  'channels/combined',
  'rings/rx',
  'rings/tx',
  'rss/table',
  'coalesce/adaptive-rx',
  'coalesce/rx-usecs',
  'gro_flush_timeout',
  'napi_defer_hard_irqs',
] as const;

/** The machine has them once: devices share them, and they outlive each. */
export const machineSettings = ['guest_halt_poll_ns'] as const;

export type MachineSetting = (typeof machineSettings)[number];

export type SettingName =
  | (typeof deviceSettings)[number]
  | MachineSetting
  | `tx-${number}/${'xps_cpus' | 'xps_rxqs'}`
  | `rx-${number}/${'rps_cpus' | 'rps_flow_cnt'}`
  | `irq-${number}/smp_affinity_list`;

const names = new RegExp(
  `^(?:${[...deviceSettings, ...machineSettings].join('|')}|tx-\\d+/xps_(?:cpus|rxqs)|rx-\\d+/rps_(?:cpus|flow_cnt)|irq-\\d+/smp_affinity_list)$`,
);

export function isSettingName(text: string): text is SettingName {
  return names.test(text);
}

export function isMachineSetting(name: SettingName): name is MachineSetting {
  return machineSettings.some((setting) => setting === name);
}

/** Where settings are read and written. */
export interface SettingsPort {
  /** Null: the device has no such setting, or not any more. */
  read(name: SettingName): string | null;
  /** Throws `kernel_refused` or `not_permitted`, naming the setting and errno. */
  write(name: SettingName, value: string): void;
}
