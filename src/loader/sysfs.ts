// SPDX-License-Identifier: Apache-2.0
/** sysfs as a network namespace sees it. /sys shows the devices of the namespace that it was mounted in. */
import { Mount } from '../maps/generated/host.ts';
import { Fd } from './fd.ts';
import type { Native } from './ffi/index.ts';
import { inNetns } from './netns.ts';

/**
 * A sysfs mount that is in no folder: nobody else sees it, and it ends with the process. While it is open the namespace
 * and its devices stay alive, so it is closed after use. Needs CAP_SYS_ADMIN.
 */
export class Sysfs implements Disposable {
  readonly #root: Fd;

  /** @param netns name of the namespace; null: the one of the calling thread. Throws `not_found`, `not_permitted` */
  constructor(native: Native, netns: string | null) {
    this.#root = inNetns(native, netns, () => mountSysfs(native));
  }

  /** Path by which this process's file functions reach the files. It is of use until close(). */
  get path(): string {
    return `/proc/self/fd/${this.#root.value}`;
  }

  close(): void {
    this.#root.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function mountSysfs(native: Native): Fd {
  const { libc } = native;
  using context = new Fd(native, native.check(libc.fsopen('sysfs', Mount.fsopenCloexec), 'fsopen', 'sysfs'));
  native.check(libc.fsconfig(context.value, Mount.configCreate, null, null, 0), 'fsconfig', 'sysfs');
  return new Fd(native, native.check(libc.fsmount(context.value, Mount.fsmountCloexec, 0), 'fsmount', 'sysfs'));
}
