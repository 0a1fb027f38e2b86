// SPDX-License-Identifier: Apache-2.0
/** A map in the kernel: its descriptor, what the kernel says about it, its pin and its BTF. */
import { readlinkSync } from 'node:fs';

import { VnicError } from '../errors.ts';
import { Fd } from '../loader/fd.ts';
import { errnoName, type Native } from '../loader/ffi/index.ts';
import { type Btf, type Layout, layoutOf, parseBtf } from './btf/index.ts';
import { BpfBtfInfo, BpfMapCreateOpts, BpfMapInfo, type BpfMapType } from './generated/host.ts';
import { E2BIG, EEXIST, ENOENT, ENOMEM, ENOSPC, type MapShape, mapTypeName } from './map-errors.ts';

/** fcntl(2) F_DUPFD_CLOEXEC, the same on every architecture (include/uapi/linux/fcntl.h). */
const dupFdCloexec = 1030;

export interface MapDefinition {
  readonly type: BpfMapType;
  /** The kernel keeps 15 characters. */
  readonly name: string;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes. */
  readonly valueSize: number;
  readonly maxEntries: number;
  /** `MapFlag`, or'ed; default 0. */
  readonly flags?: number;
  /** Of a map of maps: a map like those that it will hold; needed for the call only. */
  readonly innerMapFd?: number;
}

/** What a map's keys and values look like; undefined where nothing says it. */
export interface MapLayouts {
  readonly key: Layout | undefined;
  readonly value: Layout | undefined;
}

/** Owns a descriptor of a map. Use after `close()` throws VnicError `failed`; the map lives on while it is pinned. */
export class BpfMap implements MapShape, Disposable {
  readonly #native: Native;
  readonly fd: Fd;
  readonly id: number;
  readonly type: BpfMapType;
  /** At most 15 characters: as the kernel keeps it. */
  readonly name: string;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes; of per-CPU maps: of one CPU's value. */
  readonly valueSize: number;
  readonly maxEntries: number;
  /** `MapFlag`, or'ed. */
  readonly flags: number;
  readonly #btfId: number;
  readonly #keyTypeId: number;
  readonly #valueTypeId: number;

  private constructor(native: Native, fd: Fd, info: BpfMapInfo) {
    this.#native = native;
    this.fd = fd;
    this.id = info.id;
    this.type = info.type as BpfMapType;
    this.name = info.name;
    this.keySize = info.keySize;
    this.valueSize = info.valueSize;
    this.maxEntries = info.maxEntries;
    this.flags = info.mapFlags;
    this.#btfId = info.btfId;
    this.#keyTypeId = info.btfKeyTypeId;
    this.#valueTypeId = info.btfValueTypeId;
  }

  /**
   * An `Fd` is taken over, and closed if this throws; a plain number stays the caller's and is duplicated.
   * Throws `conflict` when the descriptor is of something else than a map.
   */
  static fromFd(native: Native, fd: number | Fd): BpfMap {
    if (typeof fd === 'number') {
      return BpfMap.#adopt(native, new Fd(native, native.check(native.libc.fcntl(fd, dupFdCloexec, 0), 'fcntl')));
    }
    return BpfMap.#adopt(native, fd);
  }

  /** Throws `not_found` when nothing is pinned there and `conflict` when it is no map. */
  static fromPin(native: Native, path: string): BpfMap {
    const result = native.libbpf.bpf_obj_get(path);
    if (result === -ENOENT) {
      throw new VnicError('not_found', `No map is pinned at ${path}.`, { details: { path } });
    }
    return BpfMap.#adopt(native, new Fd(native, native.check(result, 'bpf_obj_get', path)), ` pinned at ${path}`);
  }

  /** Throws `not_found` when there is no map of that id (any longer). */
  static fromId(native: Native, id: number): BpfMap {
    const result = native.libbpf.bpf_map_get_fd_by_id(id);
    if (result === -ENOENT) throw new VnicError('not_found', `There is no map with id ${id}.`, { details: { id } });
    return BpfMap.#adopt(native, new Fd(native, native.check(result, 'bpf_map_get_fd_by_id', `id ${id}`)));
  }

  /** Throws `capacity_exceeded` when the kernel has no room for a map of that size. */
  static create(native: Native, definition: MapDefinition): BpfMap {
    const { type, name, keySize, valueSize, maxEntries, flags = 0, innerMapFd } = definition;
    const options = BpfMapCreateOpts.encode({ mapFlags: flags, innerMapFd });
    const result = native.libbpf.bpf_map_create(type, name, keySize, valueSize, maxEntries, options);
    if (result === -E2BIG || result === -ENOMEM || result === -ENOSPC) {
      throw new VnicError(
        'capacity_exceeded',
        `Map ${name} cannot be made with max_entries ${maxEntries} and values of ${valueSize} bytes: ` +
          `${errnoName(-result)}.`,
        {
          remedy: 'Ask for fewer entries.',
          details: { map: name, maxEntries, valueSize, errno: errnoName(-result), call: 'bpf_map_create' },
        },
      );
    }
    const subject = `map ${name} (${mapTypeName(type)})`;
    return BpfMap.#adopt(native, new Fd(native, native.check(result, 'bpf_map_create', subject)));
  }

  static #adopt(native: Native, fd: Fd, origin = ''): BpfMap {
    try {
      // The kernel answers for any BPF object, and the answers do not say of what kind they are.
      const target = readlinkSync(`/proc/self/fd/${fd.value}`);
      if (target !== 'anon_inode:bpf-map') {
        const kind = target.replace(/^anon_inode:\[?([^\]]*)\]?$/, '$1');
        throw new VnicError('conflict', `A map was expected, but the object${origin} is: ${kind}.`, {
          details: { kind },
        });
      }
      const info = new Uint8Array(BpfMapInfo.size);
      const length = new Uint8Array(Uint32Array.of(info.length).buffer);
      native.check(native.libbpf.bpf_obj_get_info_by_fd(fd.value, info, length), 'bpf_obj_get_info_by_fd');
      return new BpfMap(native, fd, BpfMapInfo.decode(info));
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** Pins the map in a mounted bpffs. Throws `conflict` when something is pinned there. */
  pin(path: string): void {
    const result = this.#native.libbpf.bpf_obj_pin(this.fd.value, path);
    if (result === -EEXIST) {
      throw new VnicError('conflict', `Something is pinned at ${path} already.`, { details: { path } });
    }
    this.#native.check(result, 'bpf_obj_pin', path);
  }

  /**
   * The layouts of key and value as the map's maker described them; undefined when it did not: the kernel takes no BTF
   * for some types (CPUMAP, RINGBUF, maps of maps), and maps made by `create` have none. Needs CAP_SYS_ADMIN.
   *
   * @param known BTF by id, which is read once for the maps of one object; while one of them is open its id is its own
   */
  btf(known = new Map<number, Btf>()): MapLayouts | undefined {
    if (this.#btfId === 0) return undefined;
    const btf = known.get(this.#btfId) ?? parseBtf(readBtf(this.#native, this.#btfId));
    known.set(this.#btfId, btf);
    return {
      key: this.#keyTypeId === 0 ? undefined : layoutOf(btf, this.#keyTypeId),
      value: this.#valueTypeId === 0 ? undefined : layoutOf(btf, this.#valueTypeId),
    };
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Raw BTF that the kernel holds under an id. */
function readBtf(native: Native, id: number): Uint8Array {
  const { libbpf, memory } = native;
  using fd = new Fd(native, native.check(libbpf.bpf_btf_get_fd_by_id(id), 'bpf_btf_get_fd_by_id', `id ${id}`));

  function query(bytes: Uint8Array | null): number {
    const info = BpfBtfInfo.encode(bytes === null ? {} : { btf: memory.addressOf(bytes), btfSize: bytes.length });
    const length = new Uint8Array(Uint32Array.of(info.length).buffer);
    native.check(libbpf.bpf_obj_get_info_by_fd(fd.value, info, length), 'bpf_obj_get_info_by_fd', `BTF ${id}`);
    return BpfBtfInfo.decode(info).btfSize;
  }

  // BTF never changes, so the size asked for first still holds when the bytes are read.
  const bytes = memory.alloc(query(null));
  query(bytes);
  return bytes;
}
