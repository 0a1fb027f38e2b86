// SPDX-License-Identifier: Apache-2.0
/** What it takes to boot the guest on this machine. */
import { existsSync } from 'node:fs';
import { findCommand } from './initramfs.ts';
import { prepareKernel } from './kernel.ts';

export const QEMU = 'qemu-system-x86_64';

/** Command, and the Debian package that has it. */
const COMMANDS: readonly (readonly [command: string, packageName: string])[] = [
  [QEMU, 'qemu-system-x86'],
  ['busybox', 'busybox-static'],
  ['dpkg-deb', 'dpkg'],
];

/** Why this machine cannot boot the guest, or null. Downloads the guest's kernel when all else is there. */
export function lacksGuest(): string | null {
  if (process.arch !== 'x64')
    return `the guest is an x86-64 machine and shares Node with its host, which is ${process.arch}`;
  const missing = COMMANDS.filter(([command]) => findCommand(command) === null);
  if (missing.length > 0) {
    const packages = missing.map(([, packageName]) => packageName).join(' ');
    return `${missing.map(([command]) => command).join(', ')} not installed (make test-vm installs ${packages})`;
  }
  if (!existsSync('/dev/net/tun')) return 'there is no /dev/net/tun (modprobe tun)';
  try {
    prepareKernel();
    return null;
  } catch (error) {
    return `the guest's kernel cannot be had: ${error instanceof Error ? error.message : String(error)}`;
  }
}
