// SPDX-License-Identifier: Apache-2.0
/** Pins: where a device's maps, programs and links stay between commands, under /sys/fs/bpf/vnic/<device>/. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync, statSync } from 'node:fs';
import path from 'node:path';
import { VnicError } from '../errors.ts';
import { Fd } from './fd.ts';
import type { Native } from './ffi/index.ts';

export const BPFFS = '/sys/fs/bpf';
const ROOT = `${BPFFS}/vnic`;
/** include/uapi/linux/magic.h */
const BPF_FS_MAGIC = 0xcafe4a11;

/** A device: its interface name, and the namespace that it lives in (null: the one vnicctl runs in). */
export interface DeviceId {
  name: string;
  netns: string | null;
}

export function deviceText({ name, netns }: DeviceId): string {
  return netns === null ? name : `${name}@${netns}`;
}

/** bpffs refuses dots in names, so they and the escape itself are written as %XX. */
function escapeName(text: string): string {
  return text.replace(/[%.]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function unescapeName(text: string): string {
  return text.replace(/%([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

/** Mounts bpffs if nothing is mounted there. */
export function ensureBpffs(native: Native): void {
  if (statfsSync(BPFFS).type === BPF_FS_MAGIC) return;
  native.check(native.libc.mount('bpf', BPFFS, 'bpf', 0n, null), 'mount', BPFFS);
}

export class PinFolder {
  readonly #native: Native;
  readonly device: DeviceId;
  readonly path: string;

  constructor(native: Native, device: DeviceId) {
    this.#native = native;
    this.device = device;
    this.path = path.join(ROOT, escapeName(deviceText(device)));
  }

  pathOf(name: string): string {
    return path.join(this.path, name);
  }

  exists(name?: string): boolean {
    return existsSync(name === undefined ? this.path : this.pathOf(name));
  }

  create(): void {
    ensureBpffs(this.#native);
    mkdirSync(this.path, { recursive: true, mode: 0o700 });
  }

  pin(fd: Fd, name: string): void {
    const file = this.pathOf(name);
    this.#native.check(this.#native.libbpf.bpf_obj_pin(fd.value, file), 'bpf_obj_pin', file);
  }

  /** Throws `not_found` if there is no such pin. */
  open(name: string): Fd {
    const file = this.pathOf(name);
    if (!existsSync(file)) {
      throw new VnicError('not_found', `${deviceText(this.device)} has no pin ${name} in ${this.path}.`, {
        remedy: `Attach it with: vnicctl attach ${this.device.name}`,
      });
    }
    return new Fd(this.#native, this.#native.check(this.#native.libbpf.bpf_obj_get(file), 'bpf_obj_get', file));
  }

  /** bpffs gives each pin a number of its own; null where there is no such pin. */
  inode(name: string): number | null {
    return statSync(this.pathOf(name), { throwIfNoEntry: false })?.ino ?? null;
  }

  names(): string[] {
    return this.exists() ? readdirSync(this.path) : [];
  }

  unpin(name: string): void {
    rmSync(this.pathOf(name), { force: true });
  }

  /** Removes all pins: what nothing else holds is freed by the kernel, links included. */
  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Devices that have pins, attached or half attached. */
export function pinnedDevices(): DeviceId[] {
  if (!existsSync(ROOT)) return [];
  return readdirSync(ROOT).map((entry) => {
    const [name = '', netns] = unescapeName(entry).split('@');
    return { name, netns: netns ?? null };
  });
}

/** Id of the boot that the pins belong to: pins do not outlive it. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
