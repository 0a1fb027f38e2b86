// SPDX-License-Identifier: Apache-2.0
/** A device in a path: `eth0`, or `eth0@NETNS` for one in a namespace. */
import { z } from 'zod';
import { isDeviceName } from '../config/device.ts';
import type { DeviceId } from '../loader/pins.ts';

const expected = 'a device such as eth0, or eth0@NETNS in a network namespace';

/** As `ip netns add` takes it: a file name. */
const namespaceName = /^(?!\.{1,2}$)[^\s/@]{1,255}$/;

export function parseDeviceId(text: string): DeviceId | null {
  const at = text.lastIndexOf('@');
  const name = at === -1 ? text : text.slice(0, at);
  const netns = at === -1 ? null : text.slice(at + 1);
  if (!isDeviceName(name) || name.includes('@')) return null;
  return netns === null || namespaceName.test(netns) ? { name, netns } : null;
}

export const deviceParam = z
  .string(expected)
  .refine((text) => parseDeviceId(text) !== null, expected)
  .transform((text) => parseDeviceId(text)!)
  .meta({ description: expected, example: 'eth0', override: { type: 'string' } });

export const deviceParams = z.strictObject({ device: deviceParam });
