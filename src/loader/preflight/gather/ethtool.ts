// SPDX-License-Identifier: Apache-2.0
/** ethtool's ioctls (include/uapi/linux/ethtool.h): driver, channels, offloads. They need no tool to be installed. */
import type { StructCodec } from '../../../maps/codec.ts';
import {
  EthtoolChannels,
  EthtoolCommand,
  EthtoolDrvinfo,
  EthtoolValue,
  Ifreq,
  Ioctl,
  Libc,
} from '../../../maps/generated/host.ts';
import { Fd } from '../../fd.ts';
import type { Native } from '../../ffi/index.ts';
import type { ChannelFacts } from '../facts.ts';
import type { LegacyOffload } from '../ports.ts';

/** ETH_FLAG_LRO */
const FLAG_LRO = 1 << 15;

const offloadCommands: Readonly<Record<LegacyOffload, number>> = {
  gro: EthtoolCommand.ggro,
  gso: EthtoolCommand.ggso,
  tso: EthtoolCommand.gtso,
  lro: EthtoolCommand.gflags,
};

/** Runs one get command; null when the device does not support it. */
function get<T extends { cmd: number }>(native: Native, device: string, codec: StructCodec<T>, cmd: number): T | null {
  const { libc, memory } = native;
  using socket = new Fd(
    native,
    native.check(libc.socket(Libc.afInet, Libc.sockDgram | Libc.sockCloexec, 0), 'socket', 'for ethtool'),
  );
  const data = memory.alloc(codec.size);
  data.set(new Uint8Array(Uint32Array.of(cmd).buffer), codec.offsets.cmd);
  const request = memory.alloc(Ifreq.size);
  Ifreq.put(new DataView(request.buffer), 0, { name: device, data: memory.addressOf(data) });
  if (libc.ioctl(socket.value, BigInt(Ioctl.siocethtool), request) < 0) return null;
  return codec.decode(data);
}

export function driverOf(native: Native, device: string): { driver: string; busInfo: string } | null {
  const info = get(native, device, EthtoolDrvinfo, EthtoolCommand.gdrvinfo);
  return info === null ? null : { driver: info.driver, busInfo: info.busInfo };
}

export function channelsOf(native: Native, device: string): ChannelFacts | null {
  const channels = get(native, device, EthtoolChannels, EthtoolCommand.gchannels);
  if (channels === null) return null;
  const { maxRx, maxTx, maxCombined, rxCount, txCount, combinedCount } = channels;
  return { maxRx, maxTx, maxCombined, rx: rxCount, tx: txCount, combined: combinedCount };
}

export function offloadOf(native: Native, device: string, offload: LegacyOffload): boolean | null {
  const value = get(native, device, EthtoolValue, offloadCommands[offload]);
  if (value === null) return null;
  return offload === 'lro' ? (value.data & FLAG_LRO) !== 0 : value.data !== 0;
}
