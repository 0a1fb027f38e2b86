// SPDX-License-Identifier: Apache-2.0
/** What the kernel and the driver say of one device, beside the dataplane's own counters. */
import { statSync } from 'node:fs';
import { VnicError } from '../errors.ts';
import { DriverStatistics } from '../loader/ethtool-stats.ts';
import type { DeviceId } from '../loader/pins.ts';
import { VnicControl, VnicNone } from '../maps/generated/abi.ts';
import { readQueueCounters } from '../telemetry/counters.ts';
import type { QueueDriverDrops } from '../telemetry/driver-drops.ts';
import { type Part, unavailable } from '../telemetry/metrics/part.ts';
import type { DeviceTraces } from '../telemetry/traces/model.ts';
import type { SocketTimes } from '../telemetry/traces/socket-times.ts';
import type { TracedDevice } from '../telemetry/traces/tracer.ts';
import type { Dataplane } from './dataplane.ts';
import type { MachineTelemetry } from './machine-telemetry.ts';

/** The driver's statistics take system calls, which is worth doing once for several scrapes. */
const DRIVER_DROPS_FOR_MS = 900;

export interface InstrumentParts {
  dataplane: Dataplane;
  telemetry: MachineTelemetry;
  device: DeviceId;
  ifindex: number;
}

export class DeviceInstruments {
  readonly #parts: InstrumentParts;
  #traced: TracedDevice | null = null;
  #hasSocketPlace = false;
  #statistics: DriverStatistics | null = null;
  #drops: { part: Part<QueueDriverDrops[]>; untilMs: number } | null = null;

  constructor(parts: InstrumentParts) {
    this.#parts = parts;
  }

  traces(): Part<DeviceTraces> {
    this.#traced ??= this.#describe();
    return this.#traced === null ? unavailable('the device is gone') : this.#parts.telemetry.traces(this.#traced);
  }

  #describe(): TracedDevice | null {
    const { dataplane, device, ifindex } = this.#parts;
    const netns = netnsInode(device.netns);
    if (netns === null) return null;
    const { queues, queueCpu } = dataplane.control.read(0);
    const ringCpus = [...queueCpu.subarray(0, queues)].filter((cpu) => cpu !== VnicNone.noCpu);
    return { mapId: dataplane.cpus.map.id, netns, ifindex, ringCpus };
  }

  /** The first call begins to measure, where that is asked for. */
  socketTimes(): SocketTimes {
    const { dataplane, telemetry } = this.#parts;
    const { place, times } = telemetry.socketTimes(dataplane.cpus.map.id);
    if (place !== null) this.#setSocketPlace(place);
    return times;
  }

  #setSocketPlace(place: number): void {
    const { control } = this.#parts.dataplane;
    const { socketPlace } = VnicControl.offsets;
    if (control.u32(0, socketPlace) !== place) control.storeU32(0, socketPlace, place);
    this.#hasSocketPlace = place !== 0;
  }

  driverDrops(): Part<QueueDriverDrops[]> {
    const nowMs = performance.now();
    if (this.#drops === null || nowMs >= this.#drops.untilMs) {
      this.#drops = { part: this.#readDriverDrops(), untilMs: nowMs + DRIVER_DROPS_FOR_MS };
    }
    return this.#drops.part;
  }

  #readDriverDrops(): Part<QueueDriverDrops[]> {
    const { dataplane, telemetry, device } = this.#parts;
    try {
      this.#statistics ??= new DriverStatistics(dataplane.native, device.netns, device.name);
      const statistics = this.#statistics.read();
      return telemetry.driverDrops(dataplane.cpus.map.id).update(statistics, readQueueCounters(dataplane, 0));
    } catch (error) {
      if (error instanceof VnicError) return unavailable(error.message);
      throw error;
    }
  }

  close(): void {
    if (this.#hasSocketPlace) this.#setSocketPlace(0);
    this.#parts.telemetry.release(this.#parts.dataplane.cpus.map.id);
  }
}

/** The number by which the kernel knows a namespace. @param name null: the process's own */
function netnsInode(name: string | null): number | null {
  const file = name === null ? '/proc/self/ns/net' : `/run/netns/${name}`;
  return statSync(file, { throwIfNoEntry: false })?.ino ?? null;
}
