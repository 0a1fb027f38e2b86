// SPDX-License-Identifier: Apache-2.0
/** Network namespaces by name (`ip netns`). */
import { constants, existsSync } from 'node:fs';
import { VnicError } from '../errors.ts';
import { Libc } from '../maps/generated/host.ts';
import { Fd } from './fd.ts';
import type { Native } from './ffi/index.ts';

const NAMESPACE_FOLDER = '/run/netns';

function openPath(native: Native, path: string): Fd {
  const flags = constants.O_RDONLY | Libc.oCloexec;
  return new Fd(native, native.check(native.libc.open(path, flags, 0), 'open', path));
}

/**
 * Runs `action` with the calling thread in a named network namespace, and goes back. `action` must be synchronous:
 * Node's other threads stay where they are. Child processes started by it inherit the namespace.
 * `null` is the namespace that the process was started in. Throws `not_found` for an unknown name.
 */
export function inNetns<T>(native: Native, name: string | null, action: () => T): T {
  if (name === null) return action();
  const path = `${NAMESPACE_FOLDER}/${name}`;
  if (name.includes('/') || !existsSync(path)) {
    throw new VnicError('not_found', `There is no network namespace ${name}.`, {
      remedy: 'List them with: ip netns list',
    });
  }
  using home = openPath(native, '/proc/thread-self/ns/net');
  using target = openPath(native, path);
  native.check(native.libc.setns(target.value, Libc.cloneNewnet), 'setns', name);
  try {
    return action();
  } finally {
    native.check(native.libc.setns(home.value, Libc.cloneNewnet), 'setns', 'back');
  }
}
