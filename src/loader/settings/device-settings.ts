// SPDX-License-Identifier: Apache-2.0
/**
 * The settings of one device, and of this machine: sysfs of its namespace, /proc/irq, ethtool. Everything that reads or writes
 * such a setting does it here.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { VnicError } from '../../errors.ts';
import type { EthtoolCoalesce, EthtoolRingparam } from '../../maps/generated/host.ts';
import { formatCpuList, formatCpuMask, parseCpuList, parseCpuMask } from '../cpu-set.ts';
import { Ethtool } from '../ethtool.ts';
import type { Native } from '../ffi/index.ts';
import { inNetns } from '../netns.ts';
import type { DeviceId } from '../pins.ts';
import { Sysfs } from '../sysfs.ts';
import { isMachineSetting, type SettingName, type SettingsPort } from './setting.ts';

interface EthtoolSetting {
  /** Null: the device has no such setting. */
  read(ethtool: Ethtool): string | null;
  write(ethtool: Ethtool, value: string): void;
}

/** A setting that is one field of what a get command answers and the set command takes. */
function field<Settings>(
  get: (ethtool: Ethtool) => Settings | null,
  set: (ethtool: Ethtool, settings: Settings) => void,
  read: (settings: Settings) => string | null,
  change: (value: string) => Partial<Settings>,
): EthtoolSetting {
  return {
    read(ethtool) {
      const settings = get(ethtool);
      return settings === null ? null : read(settings);
    },
    write(ethtool, value) {
      const settings = get(ethtool);
      if (settings === null) throw new VnicError('kernel_refused', `${ethtool.device} has no such setting any more.`);
      set(ethtool, { ...settings, ...change(value) });
    },
  };
}

const coalescing = [(e: Ethtool) => e.coalescing(), (e: Ethtool, to: EthtoolCoalesce) => e.setCoalescing(to)] as const;
const rings = [(e: Ethtool) => e.rings(), (e: Ethtool, to: EthtoolRingparam) => e.setRings(to)] as const;

const ethtoolSettings = {
  'channels/combined': field(
    (ethtool) => ethtool.channels(),
    (ethtool, channels) => ethtool.setChannels(channels),
    ({ maxCombined, combinedCount }) => (maxCombined === 0 ? null : String(combinedCount)),
    (value) => ({ combinedCount: Number(value) }),
  ),
  'rings/rx': field(
    ...rings,
    ({ rxPending }) => String(rxPending),
    (value) => ({ rxPending: Number(value) }),
  ),
  'rings/tx': field(
    ...rings,
    ({ txPending }) => String(txPending),
    (value) => ({ txPending: Number(value) }),
  ),
  'rss/table': {
    read: (ethtool) => ethtool.rssTable()?.join(',') ?? null,
    write: (ethtool, value) => ethtool.setRssTable(value.split(',').map(Number)),
  },
  'coalesce/adaptive-rx': field(
    ...coalescing,
    ({ useAdaptiveRxCoalesce }) => (useAdaptiveRxCoalesce === 0 ? 'off' : 'on'),
    (value) => ({ useAdaptiveRxCoalesce: value === 'on' ? 1 : 0 }),
  ),
  'coalesce/rx-usecs': field(
    ...coalescing,
    ({ rxCoalesceUsecs }) => String(rxCoalesceUsecs),
    (value) => ({ rxCoalesceUsecs: Number(value) }),
  ),
} satisfies Partial<Record<SettingName, EthtoolSetting>>;

function isEthtoolSetting(name: SettingName): name is keyof typeof ethtoolSettings {
  return Object.hasOwn(ethtoolSettings, name);
}

/** Errors of a file that is there for some devices only, or not any more. */
const absent = new Set(['ENOENT', 'ENODEV', 'EOPNOTSUPP', 'EINVAL']);

/** Open for one operation: while it is, a deleted namespace and its devices stay alive. */
export class DeviceSettings implements SettingsPort, Disposable {
  readonly #native: Native;
  readonly #device: DeviceId;
  readonly #sysfs: Sysfs;

  /** Throws `not_found` (no such namespace or device), `not_permitted`. */
  constructor(native: Native, device: DeviceId) {
    this.#native = native;
    this.#device = device;
    this.#sysfs = new Sysfs(native, device.netns);
  }

  /** Root of the sysfs of the device's namespace. */
  get root(): string {
    return this.#sysfs.path;
  }

  /** The folder of the device in sysfs. */
  get folder(): string {
    return `${this.root}/class/net/${this.#device.name}`;
  }

  read(name: SettingName): string | null {
    if (isEthtoolSetting(name)) return this.#ethtool((ethtool) => ethtoolSettings[name].read(ethtool));
    const text = readText(this.#fileOf(name));
    if (text === null) return null;
    return isMask(name) ? formatCpuList(parseCpuMask(text)) : text.trim();
  }

  write(name: SettingName, value: string): void {
    if (isEthtoolSetting(name)) this.#ethtool((ethtool) => ethtoolSettings[name].write(ethtool, value));
    else writeText(this.#fileOf(name), isMask(name) ? formatCpuMask(parseCpuList(value)) : value, name);
  }

  #fileOf(name: SettingName): string {
    if (name.startsWith('irq-')) return `/proc/irq/${name.slice('irq-'.length)}`;
    if (isMachineSetting(name)) return `${this.root}/module/haltpoll/parameters/${name}`;
    return name.includes('/') ? `${this.folder}/queues/${name}` : `${this.folder}/${name}`;
  }

  #ethtool<T>(action: (ethtool: Ethtool) => T): T {
    return inNetns(this.#native, this.#device.netns, () => {
      using ethtool = new Ethtool(this.#native, this.#device.name);
      return action(ethtool);
    });
  }

  close(): void {
    this.#sysfs.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function isMask(name: SettingName): boolean {
  return /\/(?:xps_cpus|xps_rxqs|rps_cpus)$/.test(name);
}

/** Null where there is no such file, or none that says anything for this device. */
function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (absent.has((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw error;
  }
}

function writeText(path: string, text: string, name: SettingName): void {
  try {
    // In one call, as the kernel takes it, and never by making a file.
    writeFileSync(path, `${text}\n`, { flag: 'r+' });
  } catch (cause) {
    const { code: errno = 'failed' } = cause as NodeJS.ErrnoException;
    const denied = errno === 'EPERM' || errno === 'EACCES';
    throw new VnicError(
      denied ? 'not_permitted' : 'kernel_refused',
      `${name} cannot be set to ${JSON.stringify(text)}: ${errno}.`,
      {
        remedy: remedyFor(errno, name),
        details: { setting: name, errno },
        cause,
      },
    );
  }
}

function remedyFor(errno: string, name: SettingName): string {
  if (errno === 'ENOENT' || errno === 'ENODEV') return 'The queue or the device went away in between: ask again.';
  const isIrq = name.startsWith('irq-');
  if (isIrq && (errno === 'EPERM' || errno === 'EIO'))
    return 'The kernel manages this interrupt itself; it stays as it is.';
  if (errno === 'EPERM' || errno === 'EACCES') return 'Run as root or with CAP_NET_ADMIN.';
  if (errno === 'EINVAL') return 'A CPU may have gone offline in between: ask again.';
  return `Look at the kernel's log: dmesg`;
}
