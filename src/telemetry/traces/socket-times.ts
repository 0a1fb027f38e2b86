// SPDX-License-Identifier: Apache-2.0
/**
 * Times from XDP entry to the queue of the socket (bpf/vnic_socket.bpf.c). As with the tracepoints, what is attached belongs
 * to the process that made it.
 */
import type { Fd } from '../../loader/fd.ts';
import type { attachTracing } from '../../loader/link.ts';
import { VnicLatency, VnicSocketLimits, VnicSocketProto } from '../../maps/generated/abi.ts';
import { type BpfMap, MappedArray } from '../../maps/index.ts';
import { projectFile } from '../../project.ts';
import { type LatencyCells, sumLatencyCells } from '../counters.ts';
import { type Part, unavailable } from '../metrics/part.ts';
import { attachFirst, attachLoaded, loadTracing, type TracingProgram } from './load.ts';

type Native = Parameters<typeof attachTracing>[0];

export const socketObjectPath = projectFile('build/bpf/vnic_socket.bpf.o');

export const socketProtos = ['tcp', 'udp'] as const;
export type SocketProto = (typeof socketProtos)[number];

/** Since the daemon began to measure. */
export type SocketTimes = Record<SocketProto, Part<LatencyCells>>;

const places: Record<SocketProto, number> = { tcp: VnicSocketProto.tcp, udp: VnicSocketProto.udp };

/** Of each protocol the first that the kernel takes. */
const programs: Record<SocketProto, readonly TracingProgram[]> = {
  tcp: [{ program: 'vnic_socket_tcp', hook: { kind: 'tracepoint', name: 'tcp_probe' } }],
  udp: [
    { program: 'vnic_socket_udp', hook: { kind: 'function', name: '__udp_enqueue_schedule_skb' } },
    { program: 'vnic_socket_udp_ready', hook: { kind: 'tracepoint', name: 'sk_data_ready' } },
  ],
};

export class SocketTimer implements Disposable {
  readonly #cpus: number;
  readonly #map: BpfMap;
  readonly #cells: MappedArray<VnicLatency>;
  readonly #links: Fd[] = [];
  /** By device, which its CPUMAP names. */
  readonly #places = new Map<number, number>();
  /** Why the way to sockets of the protocol is not timed; null: it is. */
  readonly state: Readonly<Record<SocketProto, string | null>>;

  /** What this kernel does not take is left out. Throws `not_found` (not built), `kernel_refused`. */
  constructor(native: Native, options: { possibleCpus: number; objectFile?: string }) {
    this.#cpus = options.possibleCpus;
    const cells = VnicSocketLimits.places * VnicSocketProto.protos * this.#cpus;
    const loaded = loadTracing(native, options.objectFile ?? socketObjectPath, {
      programs: [...programs.tcp, ...programs.udp],
      maps: { vnic_socket_latency: { maxEntries: cells } },
      constants: { vnic_socket_cpus: this.#cpus },
    });
    this.#map = loaded.maps[0]!;
    this.#cells = new MappedArray(native, this.#map, VnicLatency);
    const [tcp, ...udp] = loaded.programs;
    this.state = { tcp: attachLoaded(native, tcp!, this.#links), udp: attachFirst(native, udp, this.#links) };
  }

  /** What `control.socket_place` is to say; 0: too many other devices are measured. */
  placeOf(mapId: number): number {
    const known = this.#places.get(mapId);
    if (known !== undefined) return known + 1;
    const taken = new Set(this.#places.values());
    const place = Array.from({ length: VnicSocketLimits.places }, (_, at) => at).find((at) => !taken.has(at));
    if (place === undefined) return 0;
    for (let at = 0; at < VnicSocketProto.protos * this.#cpus; at++) this.#cells.write(this.#index(place, 0) + at, {});
    this.#places.set(mapId, place);
    return place + 1;
  }

  /** Its place may be given to another device. */
  release(mapId: number): void {
    this.#places.delete(mapId);
  }

  read(mapId: number): SocketTimes {
    const place = this.#places.get(mapId);
    const of = (proto: SocketProto): Part<LatencyCells> => {
      const reason = this.state[proto];
      if (reason !== null) return unavailable(reason);
      if (place === undefined) return unavailable(`${VnicSocketLimits.places} other devices are being measured`);
      return sumLatencyCells(this.#cells, { from: this.#index(place, places[proto]), count: this.#cpus });
    };
    return { tcp: of('tcp'), udp: of('udp') };
  }

  #index(place: number, proto: number): number {
    return (place * VnicSocketProto.protos + proto) * this.#cpus;
  }

  /** Detaches: the last descriptor of a link is what keeps it. */
  close(): void {
    for (const link of this.#links.splice(0)) link.close();
    this.#cells.close();
    this.#map.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export function noSocketTimes(reason: string): SocketTimes {
  return { tcp: unavailable(reason), udp: unavailable(reason) };
}
