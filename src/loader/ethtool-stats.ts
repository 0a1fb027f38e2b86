// SPDX-License-Identifier: Apache-2.0
/** What the driver counts, by the driver's own names (`ethtool -S`). */
import { hostLittleEndian } from '../maps/codec.ts';
import {
  EthtoolCommand,
  EthtoolGstrings,
  EthtoolSsetInfo,
  EthtoolStats,
  EthtoolStrings,
} from '../maps/generated/host.ts';
import { Ethtool } from './ethtool.ts';
import type { Native } from './ffi/index.ts';
import { inNetns } from './netns.ts';

/**
 * The kernel writes as many values as the driver has by then, whatever it is told of the room for them
 * (net/ethtool/ioctl.c, ethtool_get_stats): somebody may just be adding queues.
 */
const SPARE_VALUES = 8192;

/** Statistics of one device. No socket is kept: it would keep a namespace that was deleted, and its devices, alive. */
export class DriverStatistics {
  readonly #native: Native;
  readonly #device: string;
  readonly #netns: string | null;
  #names: readonly string[] = [];

  constructor(native: Native, netns: string | null, device: string) {
    this.#native = native;
    this.#device = device;
    this.#netns = netns;
  }

  /** Values by name; a text says why there are none. Throws `not_found` (no such namespace), `kernel_refused`. */
  read(): ReadonlyMap<string, bigint> | string {
    return inNetns(this.#native, this.#netns, () => {
      using ethtool = new Ethtool(this.#native, this.#device);
      return this.#read(ethtool);
    });
  }

  #read(ethtool: Ethtool): ReadonlyMap<string, bigint> | string {
    const count = this.#count(ethtool);
    if (count === null) return refusal(ethtool);
    if (count === 0) return 'the driver counts nothing for ethtool';
    if (count !== this.#names.length) {
      const names = this.#readNames(ethtool, count);
      if (names === null) return refusal(ethtool);
      this.#names = names;
    }
    const stats = this.#native.memory.alloc(EthtoolStats.size + 8 * (count + SPARE_VALUES));
    stats.set(EthtoolStats.encode({ cmd: EthtoolCommand.gstats, nStats: count }));
    if (!ethtool.ask(stats)) return refusal(ethtool);
    const view = new DataView(stats.buffer);
    return new Map(
      this.#names.map((name, index) => [name, view.getBigUint64(EthtoolStats.size + 8 * index, hostLittleEndian)]),
    );
  }

  /** Null: the device is gone, or its driver has no statistics. */
  #count(ethtool: Ethtool): number | null {
    const info = this.#native.memory.alloc(EthtoolSsetInfo.size + 4);
    info.set(EthtoolSsetInfo.encode({ cmd: EthtoolCommand.gssetInfo, ssetMask: 1n << BigInt(EthtoolStrings.stats) }));
    if (!ethtool.ask(info)) return null;
    if (EthtoolSsetInfo.decode(info).ssetMask === 0n) return 0;
    return new DataView(info.buffer).getUint32(EthtoolSsetInfo.size, hostLittleEndian);
  }

  #readNames(ethtool: Ethtool, count: number): string[] | null {
    const { length } = EthtoolStrings;
    const strings = this.#native.memory.alloc(EthtoolGstrings.size + length * (count + SPARE_VALUES));
    strings.set(EthtoolGstrings.encode({ cmd: EthtoolCommand.gstrings, stringSet: EthtoolStrings.stats, len: count }));
    if (!ethtool.ask(strings)) return null;
    const decoder = new TextDecoder();
    return Array.from({ length: count }, (_, index) => {
      const start = EthtoolGstrings.size + length * index;
      return decoder.decode(strings.subarray(start, start + length)).replace(/\0.*$/s, '');
    });
  }
}

/** Right after a refused call. */
function refusal(ethtool: Ethtool): string {
  const errno = ethtool.errno();
  if (errno === 'EOPNOTSUPP') return 'the driver counts nothing for ethtool';
  return `ethtool's statistics cannot be read: ${errno}`;
}
