// SPDX-License-Identifier: Apache-2.0
/** Which devices that came back belong to which records. Pure. */
import type { Link } from '../loader/device-watch.ts';
import type { DeviceId } from '../loader/pins.ts';

/** What of a record tells its device. */
export interface KnownDevice {
  device: DeviceId;
  mac: string;
}

export interface Reattachment {
  record: KnownDevice;
  /** The name that the device has now. */
  name: string;
}

/**
 * A device is known by its MAC address, whatever it is called now, as long as no other link shares the address (VLANs and
 * bonds do); else by its name, as long as its address is not another record's.
 * @param records of devices in one namespace that are not attached
 * @param taken names of the devices there that are attached
 */
export function matchDevices(
  records: readonly KnownDevice[],
  links: ReadonlyMap<string, Link>,
  taken: ReadonlySet<string>,
): Reattachment[] {
  const free = new Map([...links].filter(([name]) => !taken.has(name)));
  const matches: Reattachment[] = [];
  const left: KnownDevice[] = [];
  for (const record of records) {
    const named = free.get(record.device.name);
    const withMac = [...links].filter(([, { mac }]) => mac !== null && mac === record.mac).map(([name]) => name);
    const [only] = withMac;
    if (named !== undefined && (named.mac === record.mac || withMac.length !== 1)) left.push(record);
    else if (withMac.length === 1 && only !== undefined && free.has(only)) matches.push({ record, name: only });
    else left.push(record);
  }
  const used = new Set(matches.map(({ name }) => name));
  for (const record of left) {
    const { name } = record.device;
    if (free.has(name) && !used.has(name)) matches.push({ record, name });
  }
  return matches;
}
