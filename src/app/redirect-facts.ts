// SPDX-License-Identifier: Apache-2.0
/** What the choice of a redirect mode is made from, as preflight and the device say it. */
import { Ethtool } from '../loader/ethtool.ts';
import type { Native } from '../loader/ffi/index.ts';
import { inNetns } from '../loader/netns.ts';
import { type DeviceId, PinFolder } from '../loader/pins.ts';
import { type DeviceFacts, gatherFacts } from '../loader/preflight/index.ts';
import { chooseRedirect, type RedirectChoice, type RedirectFacts, type RedirectSetting } from '../steering/redirect.ts';
import type { DataplaneSettings, DeviceRecord } from './record.ts';

/** Of a device in its namespace. Throws `not_found` for an unknown namespace. */
export function factsOf(native: Native, device: DeviceId): DeviceFacts {
  const pinFolder = new PinFolder(native, device).path;
  return inNetns(native, device.netns, () => gatherFacts(native, device.name, { pinFolder }));
}

export function redirectFacts(
  native: Native,
  { link }: Pick<DeviceFacts, 'link'>,
  { device, settings }: { device: DeviceId; settings: Pick<DataplaneSettings, 'mode' | 'egress' | 'queues'> },
): RedirectFacts {
  const { mode, egress, queues } = settings;
  const rss = inNetns(native, device.netns, () => {
    using ethtool = new Ethtool(native, device.name);
    return ethtool.rss();
  });
  const channels = link?.channels ?? null;
  const txQueues = channels === null ? 0 : channels.tx + channels.combined;
  return {
    mode,
    egress: egress !== 'off',
    driver: link?.driver ?? null,
    queues,
    txQueues: txQueues > 0 ? txQueues : (link?.allocatedTxQueues ?? 1),
    rss: rss === null ? 'none' : rss.isToeplitz ? 'toeplitz' : 'other',
  };
}

/** Of a device that is attached. Throws `preflight_refused`. */
export function chooseFor(
  native: Native,
  record: Pick<DeviceRecord, 'device' | 'settings'>,
  asked: RedirectSetting,
): RedirectChoice {
  return chooseRedirect(asked, redirectFacts(native, factsOf(native, record.device), record));
}
