// SPDX-License-Identifier: Apache-2.0
/**
 * What a daemon tells the service manager that started it: sd_notify(3), one datagram to the socket that NOTIFY_SOCKET
 * names. Without NOTIFY_SOCKET every method does nothing.
 */
import { VnicError } from '../errors.ts';
import { hostLittleEndian } from '../maps/codec.ts';
import { Libc, SockaddrUn, Timespec } from '../maps/generated/host.ts';
import { Fd } from './fd.ts';
import type { Native } from './ffi/index.ts';

export interface ServiceManagerOptions {
  /** Told once, of the first message that could not be sent. */
  onFailure?: (error: VnicError) => void;
}

/**
 * Each method returns whether the message was handed over: false without a manager, and when its socket is gone or
 * full. None of them throws or waits.
 */
export class ServiceManager {
  /** How often to call `watchdog()`, in ms: half of WATCHDOG_USEC; null when this process is not asked to. */
  readonly watchdogIntervalMs: number | null;
  readonly #native: Native;
  readonly #path: string | null;
  #onFailure: ((error: VnicError) => void) | null;

  constructor(native: Native, environment: NodeJS.ProcessEnv, options: ServiceManagerOptions = {}) {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: watchdogUs, WATCHDOG_PID: watchdogPid } = environment;
    this.#native = native;
    this.#path = socket === undefined || socket === '' ? null : socket;
    this.#onFailure = options.onFailure ?? null;
    this.watchdogIntervalMs = this.#path === null ? null : watchdogInterval(watchdogUs, watchdogPid);
  }

  /** True when somebody is to be told. */
  get present(): boolean {
    return this.#path !== null;
  }

  /** The start, or a reload, is done. `status` is one line for people (`systemctl status`). */
  ready(status: string): boolean {
    return this.#send('READY=1', statusLine(status));
  }

  /** A reload begins; `ready` ends it. The time stamp is what Type=notify-reload asks for. */
  reloading(): boolean {
    return this.#path !== null && this.#send('RELOADING=1', `MONOTONIC_USEC=${monotonicUs(this.#native)}`);
  }

  stopping(): boolean {
    return this.#send('STOPPING=1');
  }

  status(text: string): boolean {
    return this.#send(statusLine(text));
  }

  /** Still alive. */
  watchdog(): boolean {
    return this.#send('WATCHDOG=1');
  }

  #send(...lines: string[]): boolean {
    if (this.#path === null) return false;
    try {
      this.#sendDatagram(this.#path, Buffer.from(lines.join('\n')));
      return true;
    } catch (error) {
      if (!(error instanceof VnicError)) throw error;
      const report = this.#onFailure;
      this.#onFailure = null;
      report?.(error);
      return false;
    }
  }

  #sendDatagram(path: string, message: Uint8Array): void {
    const { libc } = this.#native;
    const address = socketAddress(path);
    const type = Libc.sockDgram | Libc.sockCloexec;
    using socket = new Fd(this.#native, this.#native.check(libc.socket(Libc.afUnix, type, 0), 'socket'));
    const flags = Libc.msgNosignal | Libc.msgDontwait;
    const sent = libc.sendto(socket.value, message, message.length, flags, address, address.length);
    this.#native.check(sent, 'sendto', `to the service manager at ${path}`);
  }
}

function statusLine(text: string): string {
  return `STATUS=${text.replace(/\s*\n\s*/g, ' ')}`;
}

/** sd_watchdog_enabled(3). */
function watchdogInterval(microseconds: string | undefined, pid: string | undefined): number | null {
  if (microseconds === undefined || !/^[1-9]\d*$/.test(microseconds)) return null;
  if (pid !== undefined && pid !== '' && pid !== String(process.pid)) return null;
  return Math.max(1, Math.floor(Number(microseconds) / 2000));
}

function monotonicUs(native: Native): bigint {
  const bytes = native.memory.alloc(Timespec.size);
  native.check(native.libc.clock_gettime(Libc.clockMonotonic, bytes), 'clock_gettime');
  const { tvSec, tvNsec } = Timespec.decode(bytes);
  return tvSec * 1_000_000n + tvNsec / 1000n;
}

/** `struct sockaddr_un` of a path, or of an abstract name ('@' stands for its leading NUL, which is not terminated). */
function socketAddress(path: string): Uint8Array {
  const abstract = path.startsWith('@');
  const name = Buffer.from(abstract ? `\0${path.slice(1)}` : `${path}\0`);
  const { sunFamily, sunPath } = SockaddrUn.offsets;
  if (name.length > SockaddrUn.size - sunPath || !(abstract || path.startsWith('/'))) {
    throw new VnicError('invalid_config', `NOTIFY_SOCKET is '${path}', which is no address of a Unix socket.`, {
      remedy: `Use an absolute path or @NAME of at most ${SockaddrUn.size - sunPath - 1} bytes.`,
    });
  }
  const bytes = new Uint8Array(sunPath + name.length);
  new DataView(bytes.buffer).setUint16(sunFamily, Libc.afUnix, hostLittleEndian);
  bytes.set(name, sunPath);
  return bytes;
}
