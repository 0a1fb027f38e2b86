// SPDX-License-Identifier: Apache-2.0
/** What a tuning plan is made from: CPUs, queues, interrupts and settings as they are. Plain data. */
import { parseCpuList } from '../loader/cpu-set.ts';
import type { HostFiles } from '../loader/preflight/ports.ts';
import { deviceSettings, machineSettings, type SettingName, type SettingsPort } from '../loader/settings/setting.ts';

export interface CpuFacts {
  readonly cpu: number;
  /** NUMA node; -1 where the kernel does not tell. */
  readonly node: number;
  /** Lowest CPU of its core. */
  readonly core: number;
  /** 0: the first thread of its core that is online; its siblings count on. */
  readonly thread: number;
}

/** An interrupt of one queue. Interrupts of a device that belong to no queue (configuration, control) are left alone. */
export interface InterruptFacts {
  readonly irq: number;
  /** As /proc/interrupts has it: `virtio3-input.0`. */
  readonly name: string;
  readonly queue: number;
}

/** What ethtool says beyond the settings themselves. Null: the device has no such thing, or cannot change it. */
export interface EthtoolLimits {
  readonly driver: string | null;
  readonly maxCombined: number | null;
  readonly maxRxRing: number | null;
  /** Whether the device delays receive interrupts by a time that can be set. */
  readonly rxUsecs: boolean;
}

export interface TuneFacts extends EthtoolLimits {
  /** The device's NUMA node; -1: unknown, or none. */
  readonly node: number;
  /** CPUs that are online, ascending. */
  readonly cpus: readonly CpuFacts[];
  /** In use. */
  readonly rxQueues: number;
  readonly txQueues: number;
  readonly interrupts: readonly InterruptFacts[];
  /** Process id of irqbalance; null: it does not run. */
  readonly irqbalance: number | null;
  /** What the machine's CPUs do while they are idle: driver and governor of cpuidle. Null: the kernel has none. */
  readonly idle: { readonly driver: string | null; readonly governor: string | null };
  /** Every setting that the device and the machine have, as it is. */
  readonly settings: ReadonlyMap<SettingName, string>;
  /** Settings of the machine that other devices hold, and this one does not. */
  readonly heldByOthers: ReadonlySet<SettingName>;
}

export interface FactPorts {
  files: HostFiles;
  settings: SettingsPort;
  /** Whether only other devices hold this setting of the machine. */
  heldByOthers: (name: SettingName) => boolean;
  /** Root of the sysfs of the device's namespace. */
  sysfs: string;
  ethtool: (features: string | null) => EthtoolLimits;
}

/** Throws what reading a setting throws. */
export function gatherTuneFacts(device: string, ports: FactPorts): TuneFacts {
  const { files, settings, sysfs, ethtool } = ports;
  const folder = `${sysfs}/class/net/${device}`;
  const queueNames = files.list(`${folder}/queues`).map(({ name }) => name);
  const queues = (kind: 'rx' | 'tx') => queueNames.filter((name) => name.startsWith(`${kind}-`)).length;
  const rxQueues = queues('rx');
  const txQueues = queues('tx');
  const interrupts = gatherInterrupts(files, folder);
  const names: SettingName[] = [
    ...deviceSettings,
    ...machineSettings,
    ...interrupts.map(({ irq }) => `irq-${irq}/smp_affinity_list` as const),
    ...numbers(txQueues).flatMap((queue) => [`tx-${queue}/xps_cpus`, `tx-${queue}/xps_rxqs`] as const),
    ...numbers(rxQueues).flatMap((queue) => [`rx-${queue}/rps_cpus`, `rx-${queue}/rps_flow_cnt`] as const),
  ];
  const values = names.flatMap((name) => {
    const value = settings.read(name);
    return value === null ? [] : [[name, value] as const];
  });
  const idle = (file: string) => files.read(`${sysfs}/devices/system/cpu/cpuidle/${file}`)?.trim() ?? null;
  return {
    ...ethtool(files.read(`${folder}/device/features`)),
    node: nodeOf(files, folder),
    cpus: gatherCpus(files, sysfs),
    rxQueues,
    txQueues,
    interrupts,
    irqbalance: findProcess(files, 'irqbalance'),
    idle: { driver: idle('current_driver'), governor: idle('current_governor') },
    settings: new Map(values),
    heldByOthers: new Set(machineSettings.filter(ports.heldByOthers)),
  };
}

function numbers(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

function numberIn(text: string | null): number | null {
  const number = Number.parseInt(text ?? '', 10);
  return Number.isNaN(number) ? null : number;
}

/** NUMA node of a device, by its folder in sysfs; a virtio device has that of the function it is on. -1: unknown. */
export function nodeOf(files: HostFiles, folder: string): number {
  const texts = [`${folder}/device/numa_node`, `${folder}/device/../numa_node`].map((path) => files.read(path));
  return numberIn(texts.find((text) => text !== null) ?? null) ?? -1;
}

/** Online CPUs with their node and their place in their core. */
export function gatherCpus(files: HostFiles, sysfs = '/sys'): CpuFacts[] {
  const folder = `${sysfs}/devices/system/cpu`;
  const online = parseCpuList(files.read(`${folder}/online`) ?? '0');
  const isOnline = new Set(online);
  return online.map((cpu) => {
    const node = files.list(`${folder}/cpu${cpu}`).find(({ name }) => /^node\d+$/.test(name))?.name;
    const siblings = files.read(`${folder}/cpu${cpu}/topology/thread_siblings_list`);
    const threads = siblings === null ? [cpu] : parseCpuList(siblings);
    return {
      cpu,
      node: node === undefined ? -1 : Number(node.slice('node'.length)),
      core: Math.min(...threads),
      thread: threads.filter((thread) => isOnline.has(thread) && thread < cpu).length,
    };
  });
}

/**
 * Drivers call the interrupts of queues by their number: `virtio3-input.0`, `eth0-TxRx-0`, `mlx5_comp0@pci:…`, `ens5-Tx-Rx-3`.
 * What virtio has besides is `virtio3-config` and `virtio3-control`.
 */
const QUEUE_OF_NAME = /(?:input|output|txrx|tx-rx|rx|tx|comp|queue|q)[-._]?(\d+)(?:@.*)?$/i;

/**
 * Interrupts of the device's function on its bus. A virtio device is a child of it and has none of its own; its
 * interrupts carry its name, and other devices may share the function.
 */
function gatherInterrupts(files: HostFiles, folder: string): InterruptFacts[] {
  const own = files.list(`${folder}/device/msi_irqs`);
  const vectors = own.length > 0 ? own : files.list(`${folder}/device/../msi_irqs`);
  if (vectors.length === 0) return [];
  const names = interruptNames(files.read('/proc/interrupts') ?? '');
  return vectors
    .map(({ name }) => Number(name))
    .sort((a, b) => a - b)
    .flatMap((irq) => {
      const name = names.get(irq) ?? '';
      const queue = QUEUE_OF_NAME.exec(name)?.[1];
      return queue === undefined ? [] : [{ irq, name, queue: Number(queue) }];
    });
}

/** The last column of /proc/interrupts, by interrupt. */
export function interruptNames(text: string): ReadonlyMap<number, string> {
  return new Map(
    text.split('\n').flatMap((line) => {
      const [, irq, rest] = /^\s*(\d+):(.*)$/.exec(line) ?? [];
      return irq === undefined ? [] : [[Number(irq), rest?.trim().split(/\s+/).at(-1) ?? ''] as const];
    }),
  );
}

function findProcess(files: HostFiles, command: string): number | null {
  const found = files
    .list('/proc')
    .find(({ name }) => /^\d+$/.test(name) && files.read(`/proc/${name}/comm`)?.trim() === command);
  return found === undefined ? null : Number(found.name);
}
