// SPDX-License-Identifier: Apache-2.0
/**
 * The tracepoint programs, loaded and attached. They belong to the process that made them: its links are their only ones,
 * so they go when it ends, however it does.
 */
import type { Fd } from '../../loader/fd.ts';
import type { attachTracing } from '../../loader/link.ts';
import {
  VnicTraceDevice,
  VnicTraceLimits,
  VnicTraceNetdev,
  VnicTraceSlot,
  VnicTraceSoftirq,
} from '../../maps/generated/abi.ts';
import { type BpfMap, HashMap, MappedArray, u32Codec } from '../../maps/index.ts';
import { projectFile } from '../../project.ts';
import { type Part, unavailable } from '../metrics/part.ts';
import { attachLoaded, loadTracing } from './load.ts';
import {
  type DeviceTraces,
  deviceTraces,
  type SoftirqTime,
  type TraceMode,
  type TracepointName,
  tracepoints,
} from './model.ts';

type Native = Parameters<typeof attachTracing>[0];

export const traceObjectPath = projectFile('build/bpf/vnic_trace.bpf.o');

export interface TracerOptions {
  mode: Exclude<TraceMode, 'off'>;
  /** One more than the highest number that a CPU can have. */
  possibleCpus: number;
  objectFile?: string;
}

export interface TracedDevice {
  /** Of its CPUMAP. */
  mapId: number;
  /** Inode number of its network namespace. */
  netns: number;
  ifindex: number;
  /** CPUs that its queues have. */
  ringCpus: readonly number[];
}

interface Slot {
  slot: number;
  device: TracedDevice;
  inUse: boolean;
}

export class Tracer implements Disposable {
  readonly mode: TracerOptions['mode'];
  readonly #cpus: number;
  readonly #maps: readonly BpfMap[];
  readonly #cpumaps: HashMap<number, VnicTraceSlot>;
  readonly #netdevs: HashMap<VnicTraceNetdev, VnicTraceSlot>;
  readonly #devices: MappedArray<VnicTraceDevice>;
  readonly #softirqs: MappedArray<VnicTraceSoftirq>;
  readonly #links: Fd[] = [];
  /** By CPUMAP. A device that is let go keeps its counts until its slot is needed. */
  readonly #slots = new Map<number, Slot>();
  /** Why each of them is not attached; null: it is. */
  readonly state: ReadonlyMap<TracepointName, string | null>;

  /** A tracepoint that this kernel does not have is left out. Throws `not_found` (not built), `kernel_refused`. */
  constructor(native: Native, options: TracerOptions) {
    this.mode = options.mode;
    this.#cpus = options.possibleCpus;
    const wanted = tracepoints.filter(({ mode }) => mode === 'basic' || this.mode === 'all');
    const loaded = loadTracing(native, options.objectFile ?? traceObjectPath, {
      programs: wanted.map(({ name, program }) => ({ program, hook: { kind: 'tracepoint', name } })),
      maps: {
        vnic_trace_cpumaps: {},
        vnic_trace_netdevs: {},
        vnic_trace_devices: { maxEntries: VnicTraceLimits.devices * this.#cpus },
        vnic_trace_softirqs: { maxEntries: this.#cpus },
      },
      constants: { vnic_trace_cpus: this.#cpus, vnic_trace_all: this.mode === 'all' },
    });
    this.#maps = loaded.maps;
    const [cpumaps, netdevs, devices, softirqs] = loaded.maps as [BpfMap, BpfMap, BpfMap, BpfMap];
    this.#cpumaps = new HashMap(native, cpumaps, u32Codec, VnicTraceSlot);
    this.#netdevs = new HashMap(native, netdevs, VnicTraceNetdev, VnicTraceSlot);
    this.#devices = new MappedArray(native, devices, VnicTraceDevice);
    this.#softirqs = new MappedArray(native, softirqs, VnicTraceSoftirq);
    const state = new Map<TracepointName, string | null>();
    for (const { name, mode } of tracepoints) {
      if (mode === 'all' && this.mode !== 'all') state.set(name, notAsked(name));
    }
    for (const [index, { name }] of wanted.entries()) {
      state.set(name, attachLoaded(native, loaded.programs[index]!, this.#links));
    }
    this.state = state;
  }

  /** Begins to count for the device, or goes on. @returns its reader */
  trace(device: TracedDevice): DeviceTracing {
    const { mapId, netns, ifindex } = device;
    const known = this.#slots.get(mapId);
    const slot = known?.slot ?? this.#freeSlot();
    if (slot === null) {
      const reason = `${VnicTraceLimits.devices} other devices are being traced`;
      return { read: () => unavailable(reason), release: () => {} };
    }
    const entry: Slot = { slot, device, inUse: true };
    this.#slots.set(mapId, entry);
    this.#cpumaps.set(mapId, { slot });
    if (known !== undefined && known.device.ifindex !== ifindex) this.#netdevs.delete(known.device);
    this.#netdevs.set({ netns, ifindex }, { slot });
    return {
      read: () => this.#read(entry),
      release: () => {
        entry.inUse = false;
      },
    };
  }

  #freeSlot(): number | null {
    const taken = new Set([...this.#slots.values()].map(({ slot }) => slot));
    for (let slot = 0; slot < VnicTraceLimits.devices; slot++) if (!taken.has(slot)) return slot;
    const released = [...this.#slots].find(([, { inUse }]) => !inUse);
    if (released === undefined) return null;
    const [mapId, { slot, device }] = released;
    this.#slots.delete(mapId);
    this.#cpumaps.delete(mapId);
    this.#netdevs.delete(device);
    for (let cpu = 0; cpu < this.#cpus; cpu++) this.#devices.write(slot * this.#cpus + cpu, {});
    return slot;
  }

  #read({ slot, device }: Slot): DeviceTraces {
    const cells = Array.from({ length: this.#cpus }, (_, cpu) => this.#devices.read(slot * this.#cpus + cpu));
    const counted = { batches: this.mode === 'all', polls: this.isAttached('napi_poll') };
    return deviceTraces(cells, new Set(device.ringCpus), counted);
  }

  isAttached(name: TracepointName): boolean {
    return this.state.get(name) === null;
  }

  /** By CPU that had any. */
  softirqs(): Part<SoftirqTime[]> {
    const missing = (['softirq_entry', 'softirq_exit'] as const)
      .map((name) => this.state.get(name))
      .find((reason) => typeof reason === 'string');
    if (missing !== undefined && missing !== null) return unavailable(missing);
    return Array.from({ length: this.#softirqs.length }, (_, cpu) => this.#softirqs.read(cpu))
      .map(({ runs, timeNs }, cpu) => ({ cpu, runs, timeNs }))
      .filter(({ runs }) => runs > 0n);
  }

  /** Detaches: the last descriptor of a link is what keeps it. */
  close(): void {
    for (const link of this.#links.splice(0)) link.close();
    this.#devices.close();
    this.#softirqs.close();
    for (const map of this.#maps) map.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export interface DeviceTracing {
  read(): Part<DeviceTraces>;
  /** Its place may be given to another device. */
  release(): void;
}

function notAsked(name: TracepointName): string {
  return `${name} is traced with daemon.telemetry.tracepoints: all`;
}
