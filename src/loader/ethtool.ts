// SPDX-License-Identifier: Apache-2.0
/** ethtool's ioctls (include/uapi/linux/ethtool.h) on one device. They need no tool to be installed. */
import { hostLittleEndian, type StructCodec } from '../maps/codec.ts';
import {
  EthtoolChannels,
  EthtoolCoalesce,
  EthtoolCommand,
  EthtoolDrvinfo,
  EthtoolRingparam,
  EthtoolRxfh,
  Ifreq,
  Ioctl,
  Libc,
} from '../maps/generated/host.ts';
import { Fd } from './fd.ts';
import { errnoName, type Native } from './ffi/index.ts';

/** ETH_RSS_HASH_TOP */
const ETH_RSS_HASH_TOP = 1;

/** How a device spreads what it receives. */
export interface RssSettings {
  /** Receive queue of each class of hashes; the class is the hash modulo the table's length. */
  table: number[];
  key: Uint8Array;
  /** Whether it is the function that `src/steering/toeplitz.ts` has. */
  isToeplitz: boolean;
}

/** Of a device in the calling thread's network namespace: opened, used and closed there. */
export class Ethtool implements Disposable {
  readonly native: Native;
  readonly device: string;
  readonly #socket: Fd;

  constructor(native: Native, device: string) {
    this.native = native;
    this.device = device;
    const opened = native.libc.socket(Libc.afInet, Libc.sockDgram | Libc.sockCloexec, 0);
    this.#socket = new Fd(native, native.check(opened, 'socket', 'for ethtool'));
  }

  /** Performs the command at the start of `data`, which is read and written. False: refused, see errno(). */
  ask(data: Uint8Array): boolean {
    return this.#request(data) === 0;
  }

  /** Name of the error of the last request that was refused. */
  errno(): string {
    return errnoName(this.native.errno());
  }

  /** What a get command answers; null where it is refused: most often the driver does not know it. */
  get<T extends { cmd: number }>(codec: StructCodec<T>, cmd: number): T | null {
    const data = this.native.memory.alloc(codec.size);
    data.set(new Uint8Array(Uint32Array.of(cmd).buffer), codec.offsets.cmd);
    return this.ask(data) ? codec.decode(data) : null;
  }

  /** Null where the device does not say. */
  driver(): string | null {
    return this.get(EthtoolDrvinfo, EthtoolCommand.gdrvinfo)?.driver ?? null;
  }

  channels(): EthtoolChannels | null {
    return this.get(EthtoolChannels, EthtoolCommand.gchannels);
  }

  setChannels(channels: EthtoolChannels): void {
    this.#set(EthtoolChannels.encode({ ...channels, cmd: EthtoolCommand.schannels }), 'channels');
  }

  rings(): EthtoolRingparam | null {
    return this.get(EthtoolRingparam, EthtoolCommand.gringparam);
  }

  setRings(rings: EthtoolRingparam): void {
    this.#set(EthtoolRingparam.encode({ ...rings, cmd: EthtoolCommand.sringparam }), 'rings');
  }

  coalescing(): EthtoolCoalesce | null {
    return this.get(EthtoolCoalesce, EthtoolCommand.gcoalesce);
  }

  setCoalescing(coalescing: EthtoolCoalesce): void {
    this.#set(EthtoolCoalesce.encode({ ...coalescing, cmd: EthtoolCommand.scoalesce }), 'coalescing');
  }

  /** The RSS indirection table: the receive queue of each hash class. Null: the device has none. */
  rssTable(): number[] | null {
    return this.rss()?.table ?? null;
  }

  /** Null: the device has no indirection table. */
  rss(): RssSettings | null {
    const sizes = this.get(EthtoolRxfh, EthtoolCommand.grssh);
    if (sizes === null || sizes.indirSize === 0) return null;
    const { indirSize, keySize } = sizes;
    const data = this.#rxfh({ cmd: EthtoolCommand.grssh, indirSize, keySize });
    if (!this.ask(data)) return null;
    const view = new DataView(data.buffer);
    const keyAt = EthtoolRxfh.size + 4 * indirSize;
    return {
      table: Array.from({ length: indirSize }, (_, index) =>
        view.getUint32(EthtoolRxfh.size + 4 * index, hostLittleEndian),
      ),
      key: data.slice(keyAt, keyAt + keySize),
      isToeplitz: EthtoolRxfh.decode(data).hfunc === ETH_RSS_HASH_TOP,
    };
  }

  /**
   * The hash key and function stay. The driver may report success although the device refused (virtio_net): only the
   * queues' counters tell.
   */
  setRssTable(table: readonly number[]): void {
    const data = this.#rxfh({ cmd: EthtoolCommand.srssh, indirSize: table.length });
    const view = new DataView(data.buffer);
    table.forEach((queue, index) => {
      view.setUint32(EthtoolRxfh.size + 4 * index, queue, hostLittleEndian);
    });
    this.#set(data, 'RSS table');
  }

  #rxfh({
    cmd,
    indirSize,
    keySize = 0,
  }: {
    cmd: number;
    indirSize: number;
    keySize?: number;
  }): Uint8Array<ArrayBuffer> {
    const data = this.native.memory.alloc(EthtoolRxfh.size + 4 * indirSize + keySize);
    data.set(EthtoolRxfh.encode({ cmd, rssContext: 0, indirSize, keySize, hfunc: 0 }));
    return data;
  }

  /** Throws `not_permitted`, `kernel_refused`. @param what is set, for the error */
  #set(command: Uint8Array, what: string): void {
    const data = this.native.memory.alloc(command.length);
    data.set(command);
    this.native.check(this.#request(data), 'ioctl', `${this.device} ${what}`);
  }

  #request(data: Uint8Array): number {
    const { libc, memory } = this.native;
    const request = memory.alloc(Ifreq.size);
    Ifreq.put(new DataView(request.buffer), 0, { name: this.device, data: memory.addressOf(data) });
    return libc.ioctl(this.#socket.value, BigInt(Ioctl.siocethtool), request);
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
