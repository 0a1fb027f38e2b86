// SPDX-License-Identifier: Apache-2.0
/**
 * Which accelerators are tried, in turn, until a guest comes up. /dev/kvm proves nothing: on a host that is a guest
 * itself it may exist and emulate the guest's kernel mode at a crawl. So KVM gets one try with a short limit.
 */
import { accessSync, constants } from 'node:fs';

export interface BootTry {
  /** QEMU's -accel option. */
  readonly accelerator: string;
  readonly cpu: string;
  readonly limitMs: number;
}

/** A boot takes 2 s with KVM. */
const KVM: BootTry = { accelerator: 'kvm', cpu: 'host', limitMs: 30_000 };
/**
 * An emulated boot takes 6 s on an idle machine, and many times that on a busy one. One thread for all CPUs: it is the only mode in which every boot comes
 * up, and it leaves the host a CPU.
 */
const EMULATED: BootTry = { accelerator: 'tcg,thread=single', cpu: 'max', limitMs: 150_000 };

/** @param failed accelerators that did not bring an earlier guest up */
export function bootTries(hasKvm: boolean, failed: ReadonlySet<string> = new Set()): BootTry[] {
  const tries = [...(hasKvm ? [KVM] : []), EMULATED, EMULATED];
  return tries.filter(({ accelerator }) => accelerator !== KVM.accelerator || !failed.has(accelerator));
}

export function hasKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
