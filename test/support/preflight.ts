// SPDX-License-Identifier: Apache-2.0
/** Plays recorded answers of a device and of a host to preflight, through the ports that it asks the real ones by. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type {
  ChannelFacts,
  CommandResult,
  DeviceFacts,
  FolderEntry,
  KernelFeature,
  LegacyOffload,
  PreflightPorts,
} from '../../src/loader/preflight/index.ts';
import { gatherFacts } from '../../src/loader/preflight/index.ts';
import { ffiThatMustNotBeUsed } from './unused-native.ts';

const FOLDER = path.join(import.meta.dirname, '../fixtures/preflight');

interface Recording {
  description: string;
  files: Record<string, string>;
  symlinks?: Record<string, string>;
  /** By command line: standard output as text or as JSON, or a failure. */
  commands: Record<string, unknown>;
}

interface DeviceRecording extends Recording {
  device: string;
  kernel: {
    drivers: Record<string, { driver: string; busInfo: string }>;
    channels: Record<string, ChannelFacts>;
    offloads: Record<string, Record<LegacyOffload, boolean>>;
    xdpFeatures: number | null;
    attached?: { native: number; generic: number; hardware: number };
    programs?: Record<string, { name: string; tag: string }>;
    links?: { id: number; programId: number }[] | null;
    pins?: Record<string, { linkId: number | null; programId: number | null }>;
  };
}

interface HostRecording extends Recording {
  bpfWorks: boolean;
  features: Record<KernelFeature, boolean>;
}

function load<T>(folder: string, name: string): T {
  return JSON.parse(readFileSync(path.join(FOLDER, folder, `${name}.json`), 'utf8')) as T;
}

/** What a folder holds, by the recorded paths below it. */
function listOf(paths: readonly string[], folder: string): FolderEntry[] {
  const entries = new Map<string, boolean>();
  for (const file of paths) {
    if (!file.startsWith(`${folder}/`)) continue;
    const [name = '', ...rest] = file.slice(folder.length + 1).split('/');
    entries.set(name, rest.length > 0);
  }
  return [...entries].map(([name, isFolder]) => ({ name, folder: isFolder }));
}

function answerOf(recorded: unknown): CommandResult {
  if (recorded === undefined) return { status: null, stdout: '', stderr: '' };
  if (typeof recorded === 'string') return { status: 0, stdout: recorded, stderr: '' };
  if (Array.isArray(recorded)) return { status: 0, stdout: JSON.stringify(recorded), stderr: '' };
  return { stdout: '', ...(recorded as { status: number; stderr: string }) };
}

function portsOf(device: DeviceRecording, host: HostRecording): PreflightPorts {
  const files = { ...host.files, ...device.files };
  const symlinks = { ...host.symlinks, ...device.symlinks };
  const commands = { ...host.commands, ...device.commands };
  const { kernel } = device;
  const paths = [...Object.keys(files), ...Object.keys(symlinks), ...Object.keys(kernel.pins ?? {})];
  return {
    files: {
      read: (file) => files[file] ?? null,
      list: (folder) => listOf(paths, folder),
      target: (file) => symlinks[file] ?? null,
    },
    run: (command, args) => answerOf(commands[[command, ...args].join(' ')]),
    kernel: {
      driverOf: (name) => kernel.drivers[name] ?? null,
      channelsOf: (name) => kernel.channels[name] ?? null,
      offload: (name, offload) => kernel.offloads[name]?.[offload] ?? null,
      xdpFeatures: () => kernel.xdpFeatures,
      attachedPrograms: () => kernel.attached ?? { native: 0, generic: 0, hardware: 0 },
      program: (id) => kernel.programs?.[String(id)] ?? null,
      xdpLinks: () => (kernel.links === undefined ? [] : kernel.links),
      pinnedObject: (file) => kernel.pins?.[file] ?? null,
      bpfWorks: () => host.bpfWorks,
      hasFeature: (feature) => host.features[feature],
    },
  };
}

/** The facts of a recorded device on a recorded host, gathered as on a real machine. */
export function recordedFacts(
  deviceName: string,
  hostName: string,
  change: (ports: PreflightPorts) => PreflightPorts = (ports) => ports,
  askedName?: string,
): DeviceFacts {
  const device = load<DeviceRecording>('devices', deviceName);
  const ports = change(portsOf(device, load<HostRecording>('hosts', hostName)));
  return gatherFacts(ffiThatMustNotBeUsed, askedName ?? device.device, {
    pinFolder: `/sys/fs/bpf/vnic/${device.device}`,
    ports,
  });
}
