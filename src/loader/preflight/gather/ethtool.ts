// SPDX-License-Identifier: Apache-2.0
/** What preflight asks ethtool: driver, channels, offloads. Null: the device does not say. */
import { EthtoolCommand, EthtoolDrvinfo, EthtoolValue } from '../../../maps/generated/host.ts';
import { Ethtool } from '../../ethtool.ts';
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

export function driverOf(native: Native, device: string): { driver: string; busInfo: string } | null {
  using ethtool = new Ethtool(native, device);
  const info = ethtool.get(EthtoolDrvinfo, EthtoolCommand.gdrvinfo);
  return info === null ? null : { driver: info.driver, busInfo: info.busInfo };
}

export function channelsOf(native: Native, device: string): ChannelFacts | null {
  using ethtool = new Ethtool(native, device);
  const channels = ethtool.channels();
  if (channels === null) return null;
  const { maxRx, maxTx, maxCombined, rxCount, txCount, combinedCount } = channels;
  return { maxRx, maxTx, maxCombined, rx: rxCount, tx: txCount, combined: combinedCount };
}

export function offloadOf(native: Native, device: string, offload: LegacyOffload): boolean | null {
  using ethtool = new Ethtool(native, device);
  const value = ethtool.get(EthtoolValue, offloadCommands[offload]);
  if (value === null) return null;
  return offload === 'lro' ? (value.data & FLAG_LRO) !== 0 : value.data !== 0;
}
