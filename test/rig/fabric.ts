// SPDX-License-Identifier: Apache-2.0
/** The fabric's XDP programs: the generator's fast path, and the book of what left the host by which TX queue. */
import { VnicError } from '../../src/errors.ts';
import type { Fd } from '../../src/loader/fd.ts';
import type { Native } from '../../src/loader/ffi/index.ts';
import { inNetns } from '../../src/loader/netns.ts';
import { BpfObject } from '../../src/loader/object.ts';
import { hostLittleEndian } from '../../src/maps/codec.ts';
import { VnicFlowKey } from '../../src/maps/generated/abi.ts';
import { XdpFlag } from '../../src/maps/generated/host.ts';
import { deviceIndex, type StructFields, setDevice, structFields } from './mapped.ts';
import { rigObject } from './objects.ts';

/** A TCP or UDP flow that left the host, as it arrived at the other end of the device. */
export interface DepartedFlow {
  /** 16 bytes; IPv4 as ::ffff:a.b.c.d. */
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly sport: number;
  readonly dport: number;
  /** IP protocol number. */
  readonly proto: number;
  readonly packets: number;
  /** Whole frames. */
  readonly bytes: number;
  /** TX queues of the device that it left by, ascending. */
  readonly queues: readonly number[];
  readonly lastQueue: number;
  /** How often its queue changed. */
  readonly changes: number;
}

/** Attaches an XDP program in native mode, for as long as the device exists. */
export function attachNativeXdp(native: Native, program: Fd, device: string): void {
  const result = native.libbpf.bpf_xdp_attach(deviceIndex(native, device), program.value, XdpFlag.drvMode, null);
  native.check(result, 'bpf_xdp_attach', device);
}

export class Fabric {
  readonly #native: Native;
  readonly #netns: string;
  #departed: Fd | null = null;
  #fields: StructFields | null = null;

  constructor(native: Native, netns: string) {
    this.#native = native;
    this.#netns = netns;
  }

  /** Attaches the observer to the uplink and the fast path to the AZs' ends. */
  attach(uplink: string, azDevices: readonly string[]): void {
    const native = this.#native;
    using object = BpfObject.load(native, rigObject('rig_fabric'));
    using devmap = object.mapFd('rig_uplink');
    using forward = object.programFd('rig_fabric');
    using observe = object.programFd('rig_observe');
    this.#departed = object.mapFd('rig_departed');
    this.#fields = structFields(object, 'rig_departed');
    inNetns(native, this.#netns, () => {
      setDevice(native, devmap, 0, deviceIndex(native, uplink));
      attachNativeXdp(native, observe, uplink);
      for (const device of azDevices) attachNativeXdp(native, forward, device);
    });
  }

  /** The TCP and UDP flows that left the host since the rig was built or `forgetDepartures()`. */
  departures(): DepartedFlow[] {
    const { departed, fields } = this.#open;
    const value = this.#native.memory.alloc(fields.size);
    const view = new DataView(value.buffer);
    const u32 = (field: string): number => view.getUint32(fields.at(field), hostLittleEndian);
    const u64 = (field: string): bigint => view.getBigUint64(fields.at(field), hostLittleEndian);
    return this.#keys(departed).flatMap((bytes) => {
      if (this.#native.libbpf.bpf_map_lookup_elem(departed.value, bytes, value) < 0) return [];
      const { src, dst, sport, dport, proto } = VnicFlowKey.decode(bytes);
      const flow = { src: src.bytes, dst: dst.bytes, sport, dport, proto };
      return {
        ...flow,
        packets: Number(u64('packets')),
        bytes: Number(u64('bytes')),
        queues: bitsOf(u64('queues')),
        lastQueue: u32('last_queue'),
        changes: u32('changes'),
      };
    });
  }

  forgetDepartures(): void {
    const { departed } = this.#open;
    for (const key of this.#keys(departed)) this.#native.libbpf.bpf_map_delete_elem(departed.value, key);
  }

  #keys(map: Fd): Uint8Array[] {
    const keys: Uint8Array[] = [];
    let key: Uint8Array | null = null;
    // The map holds 65536; a key that vanishes restarts the walk, and nothing vanishes here.
    while (keys.length < 65536) {
      const next = this.#native.memory.alloc(VnicFlowKey.size);
      if (this.#native.libbpf.bpf_map_get_next_key(map.value, key, next) < 0) break;
      keys.push(next);
      key = next;
    }
    return keys;
  }

  get #open(): { departed: Fd; fields: StructFields } {
    if (this.#departed === null || this.#fields === null) {
      throw new VnicError('failed', 'The fabric was used before it was attached or after it was closed.');
    }
    return { departed: this.#departed, fields: this.#fields };
  }

  close(): void {
    this.#departed?.close();
    this.#departed = null;
  }
}

/** Numbers of the bits that are set, ascending. */
export function bitsOf(mask: bigint): number[] {
  return Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => (mask >> BigInt(bit)) & 1n);
}
