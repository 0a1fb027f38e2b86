// SPDX-License-Identifier: Apache-2.0
/** A device in a path: `eth0`, or `eth0@NETNS` for one in a namespace. */
import { z } from 'zod';
import { isDeviceName, isText } from '../config/device.ts';
import type { DeviceId } from '../loader/pins.ts';

const expected = 'a device such as eth0, or eth0@NETNS in a network namespace';

/** As `ip netns add` takes it: a file name. */
const namespaceName = /^(?!\.{1,2}$)[^\s/@]{1,255}$/;

/**
 * Files and pins are called by the device, escaped, and 255 bytes are all that a file system takes. The longest name is
 * that of damaged rules: it adds a hash and a time.
 */
const MAX_ESCAPED_BYTES = 150;

/** Dots are escaped for bpffs, all the rest for the state folder: together they are never shorter than each. */
function fitsFileName(text: string): boolean {
  return encodeURIComponent(text.replaceAll('.', '/')).length <= MAX_ESCAPED_BYTES;
}

export function parseDeviceId(text: string): DeviceId | null {
  const at = text.lastIndexOf('@');
  const name = at === -1 ? text : text.slice(0, at);
  const netns = at === -1 ? null : text.slice(at + 1);
  if (!isDeviceName(name) || name.includes('@')) return null;
  if (netns === null) return { name, netns };
  return isText(netns) && namespaceName.test(netns) && fitsFileName(text) ? { name, netns } : null;
}

export const deviceParam = z
  .string(expected)
  .refine((text) => parseDeviceId(text) !== null, expected)
  .transform((text) => parseDeviceId(text)!)
  .meta({ description: expected, examples: ['eth0'], override: { type: 'string' } });

export const deviceParams = z.strictObject({ device: deviceParam });
