// SPDX-License-Identifier: Apache-2.0
/** A BPF object file: opened, configured, loaded into the kernel. What is loaded lives as long as its descriptors or pins. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { VnicError } from '../errors.ts';
import type { Btf } from '../maps/btf/index.ts';
import { layoutOf, parseObjectBtf } from '../maps/btf/index.ts';
import { hostLittleEndian } from '../maps/codec.ts';
import { BpfObjectOpenOpts } from '../maps/generated/host.ts';
import { Fd } from './fd.ts';
import type { Native } from './ffi/index.ts';
import { verifierError } from './verifier-log.ts';

/** Room for the kernel's log; the kernel keeps the end of a longer one since 6.4, its beginning before. */
const VERIFIER_LOG_BYTES = 1 << 20;

/** Names the maps of global data: `vnic.rodata`. */
const OBJECT_NAME = 'vnic';

export type GlobalValue = number | boolean | readonly number[];

export interface MapSettings {
  /** 0 is not a size: leave it out to keep the object's own. */
  maxEntries?: number;
  /** `enum bpf_map_type` */
  type?: number;
  /**
   * Use this map instead of making a new one; the caller keeps its descriptor. Its type, flags and sizes must be those
   * that a new one would have.
   */
  reuse?: Fd;
}

export interface ObjectSettings {
  maps?: Readonly<Record<string, MapSettings>>;
  /** Values of `const volatile` globals, by name. */
  constants?: Readonly<Record<string, GlobalValue>>;
  /** Only these programs are loaded; all if left out. */
  programs?: readonly string[];
}

/** What the kernel is asked to make a map of. */
export interface MapShape {
  /** `enum bpf_map_type` */
  type: number;
  /** Bytes. */
  keySize: number;
  /** Bytes. */
  valueSize: number;
  maxEntries: number;
  flags: number;
}

export class BpfObject implements Disposable {
  readonly #native: Native;
  readonly btf: Btf;
  readonly path: string;
  /** SHA-256 of the file's bytes, hex. */
  readonly sha256: string;
  /** libbpf writes the kernel's words here for as long as the object is open. */
  readonly #log: Uint8Array<ArrayBuffer>;
  #handle: bigint;

  private constructor(native: Native, path: string, bytes: Uint8Array) {
    this.#native = native;
    this.path = path;
    this.btf = parseObjectBtf(bytes);
    this.sha256 = hexSha256(bytes);
    this.#log = native.memory.alloc(VERIFIER_LOG_BYTES);
    const name = native.memory.alloc(8);
    name.set(Buffer.from(OBJECT_NAME));
    const opts = BpfObjectOpenOpts.encode({
      objectName: native.memory.addressOf(name),
      kernelLogBuf: native.memory.addressOf(this.#log),
      kernelLogSize: BigInt(this.#log.length),
    });
    this.#handle = this.#quietly(() =>
      native.check(native.libbpf.bpf_object__open_mem(bytes, bytes.length, opts), 'bpf_object__open_mem', path),
    );
  }

  /** Opens and loads an object file. Throws what `open` and `load` throw. */
  static load(native: Native, path: string, settings: ObjectSettings = {}): BpfObject {
    const object = BpfObject.open(native, path);
    try {
      object.load(settings);
    } catch (error) {
      object.close();
      throw error;
    }
    return object;
  }

  /** Reads an object file; nothing is in the kernel yet. Throws `not_found` (no such file). */
  static open(native: Native, path: string): BpfObject {
    return new BpfObject(native, path, readObjectFile(path));
  }

  /**
   * Configures the object and loads it, once. Nothing is pinned or attached. Throws `verifier_rejected` with the log in
   * `details.log`, `abi_mismatch` (a map to reuse is of another shape), `not_permitted`, `kernel_refused`.
   */
  load(settings: ObjectSettings = {}): void {
    this.#quietly((messages) => {
      this.#configure(settings);
      const result = this.#native.libbpf.bpf_object__load(this.#open);
      if (result < 0) throw verifierError(this.#native, result, this.#log, messages);
    });
  }

  /** Keeps libbpf's warnings from stderr, and gives them to `action` as they come. */
  #quietly<T>(action: (messages: readonly string[]) => T): T {
    const messages: string[] = [];
    this.#native.setPrint((level, text) => {
      if (level === 0) messages.push(text.trimEnd());
    });
    try {
      return action(messages);
    } finally {
      this.#native.setPrint(null);
    }
  }

  /** SHA-256 of an object file, hex. Throws `not_found` (no such file). */
  static sha256(path: string): string {
    return hexSha256(readObjectFile(path));
  }

  /** The BTF of an object file, without loading anything. */
  static readBtf(path: string): Btf {
    return parseObjectBtf(readObjectFile(path));
  }

  #configure(settings: ObjectSettings): void {
    const { libbpf } = this.#native;
    for (const [name, map] of Object.entries(settings.maps ?? {})) {
      const handle = this.#map(name);
      if (map.type !== undefined)
        this.#native.check(libbpf.bpf_map__set_type(handle, map.type), 'bpf_map__set_type', name);
      if (map.maxEntries !== undefined) {
        this.#native.check(libbpf.bpf_map__set_max_entries(handle, map.maxEntries), 'bpf_map__set_max_entries', name);
      }
      if (map.reuse !== undefined) this.#reuse(handle, name, map.reuse);
    }
    if (settings.constants !== undefined) this.#setConstants(settings.constants);
    if (settings.programs === undefined) return;
    const wanted = new Set(settings.programs);
    for (let program = 0n; ; ) {
      program = libbpf.bpf_object__next_program(this.#handle, program);
      if (program === 0n) break;
      const name = this.#native.check(libbpf.bpf_program__name(program), 'bpf_program__name');
      this.#native.check(
        libbpf.bpf_program__set_autoload(program, wanted.delete(name)),
        'bpf_program__set_autoload',
        name,
      );
    }
    if (wanted.size > 0) throw new VnicError('failed', `${this.path} has no program ${[...wanted].join(', ')}.`);
  }

  /** libbpf takes any map and says nothing: programs of another shape would read past its end or not find its entries. */
  #reuse(handle: bigint, name: string, fd: Fd): void {
    const wanted = this.#shape(handle);
    this.#native.check(this.#native.libbpf.bpf_map__reuse_fd(handle, fd.value), 'bpf_map__reuse_fd', name);
    const actual = this.#shape(handle);
    const differences = Object.entries(wanted).flatMap(([key, value]) => {
      const other = actual[key as keyof MapShape];
      return value === other ? [] : [`${key} ${value} is expected, it is ${other}`];
    });
    if (differences.length === 0) return;
    throw new VnicError('abi_mismatch', `Map ${name} has another shape: ${differences.join('; ')}.`, {
      remedy: 'Detach with the version that made the map, then attach with this one.',
      details: { map: name, expected: wanted, actual },
    });
  }

  #shape(handle: bigint): MapShape {
    const { libbpf } = this.#native;
    return {
      type: libbpf.bpf_map__type(handle),
      keySize: libbpf.bpf_map__key_size(handle),
      valueSize: libbpf.bpf_map__value_size(handle),
      maxEntries: libbpf.bpf_map__max_entries(handle),
      flags: libbpf.bpf_map__map_flags(handle),
    };
  }

  /** Whether the object has such a map; those of global data are named `vnic.bss` and the like. */
  declares(name: string): boolean {
    return this.#native.libbpf.bpf_object__find_map_by_name(this.#open, name) !== 0n;
  }

  /** Of the maps that a map of maps is declared to hold. */
  innerShape(name: string): MapShape {
    const inner = this.#native.libbpf.bpf_map__inner_map(this.#map(name));
    return this.#shape(this.#native.check(inner, 'bpf_map__inner_map', name));
  }

  /** Writes `const volatile` globals at the places that the object's BTF gives them. */
  #setConstants(constants: Readonly<Record<string, GlobalValue>>): void {
    const section = this.btf.type(this.btf.idOf('.rodata', 'datasec'));
    if (section.kind !== 'datasec') return;
    const map = this.#map(`${OBJECT_NAME}.rodata`);
    const size = this.#native.memory.alloc(8);
    const address = this.#native.check(this.#native.libbpf.bpf_map__initial_value(map, size), 'bpf_map__initial_value');
    const length = Number(new DataView(size.buffer).getBigUint64(0, hostLittleEndian));
    const view = new DataView(this.#native.memory.view(address, length));
    for (const [name, value] of Object.entries(constants)) {
      const variable = section.variables.find((candidate) => this.btf.type(candidate.typeId).name === name);
      if (variable === undefined) throw new VnicError('failed', `${this.path} has no constant ${name}.`);
      const type = this.btf.type(variable.typeId);
      if (type.kind !== 'var') throw new VnicError('failed', `${name} in ${this.path} is no variable.`);
      const values = typeof value === 'object' ? value : [Number(value)];
      const width = variable.size / values.length;
      if (layoutOf(this.btf, type.typeId).size !== variable.size || (width !== 4 && width !== 1)) {
        throw new VnicError('failed', `${name} in ${this.path} does not hold ${values.length} number(s).`);
      }
      values.forEach((number, index) => {
        if (width === 4) view.setUint32(variable.offset + 4 * index, number, hostLittleEndian);
        else view.setUint8(variable.offset + index, number);
      });
    }
  }

  #map(name: string): bigint {
    return this.#native.check(
      this.#native.libbpf.bpf_object__find_map_by_name(this.#open, name),
      'bpf_object__find_map_by_name',
      name,
    );
  }

  get #open(): bigint {
    if (this.#handle === 0n) throw new VnicError('failed', `The object ${this.path} was used after it was closed.`);
    return this.#handle;
  }

  /** Names of the object's own maps, in its order; those for global data are left out. */
  mapNames(): string[] {
    const names: string[] = [];
    for (let map = 0n; ; ) {
      map = this.#native.libbpf.bpf_object__next_map(this.#open, map);
      if (map === 0n) return names;
      const name = this.#native.check(this.#native.libbpf.bpf_map__name(map), 'bpf_map__name');
      if (!name.includes('.')) names.push(name);
    }
  }

  /** A descriptor of its own for a map, valid after the object is closed. */
  mapFd(name: string): Fd {
    const fd = this.#native.check(this.#native.libbpf.bpf_map__fd(this.#map(name)), 'bpf_map__fd', name);
    return this.#duplicate(fd, name);
  }

  /** A descriptor of its own for a program, valid after the object is closed. */
  programFd(name: string): Fd {
    const program = this.#native.check(
      this.#native.libbpf.bpf_object__find_program_by_name(this.#open, name),
      'bpf_object__find_program_by_name',
      name,
    );
    return this.#duplicate(
      this.#native.check(this.#native.libbpf.bpf_program__fd(program), 'bpf_program__fd', name),
      name,
    );
  }

  #duplicate(fd: number, name: string): Fd {
    const F_DUPFD_CLOEXEC = 1030;
    return new Fd(this.#native, this.#native.check(this.#native.libc.fcntl(fd, F_DUPFD_CLOEXEC, 3), 'fcntl', name));
  }

  /** Frees what libbpf holds. Pinned and duplicated maps and programs stay. Idempotent. */
  close(): void {
    if (this.#handle === 0n) return;
    this.#native.libbpf.bpf_object__close(this.#handle);
    this.#handle = 0n;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function hexSha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function readObjectFile(path: string): Uint8Array {
  try {
    return new Uint8Array(readFileSync(path));
  } catch (error) {
    throw new VnicError('not_found', `The BPF object ${path} cannot be read.`, {
      remedy: 'Build it with: make build',
      cause: error,
    });
  }
}
