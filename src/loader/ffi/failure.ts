// SPDX-License-Identifier: Apache-2.0
/** Tells a failed native call from a successful one and names its errno. Pure. */
import { constants } from 'node:os';
import { getSystemErrorMessage } from 'node:util';

import { VnicError } from '../../errors.ts';
import { type Failure, libbpfSignatures, libcSignatures, type Signature } from './signatures.ts';
import type { NativeCall } from './types.ts';

/** mmap's MAP_FAILED, `(void *)-1`. */
const mapFailed = 0xffff_ffff_ffff_ffffn;

const signatures: Readonly<Record<string, Signature>> = { ...libbpfSignatures, ...libcSignatures };

// EAGAIN has two names; the first one listed is the usual one.
const errnoNames = new Map<number, string>();
for (const [name, value] of Object.entries(constants.errno)) {
  if (!errnoNames.has(value)) errnoNames.set(value, name);
}
// The kernel's own ENOTSUPP, which user space headers do not have (include/linux/errno.h).
errnoNames.set(524, 'ENOTSUPP');

/** `EBUSY` for 16; `errno 999` for a number without a name. */
export function errnoName(errno: number): string {
  return errnoNames.get(errno) ?? `errno ${errno}`;
}

export function failureOf(call: NativeCall): Failure {
  return signatures[call]![2];
}

/** True when `result` is the value by which a function of this kind reports failure. */
export function isFailure(result: unknown, failure: Failure): boolean {
  switch (failure) {
    case 'errno':
      return (result as number) < 0;
    case 'minus_one':
      return result === -1;
    case 'zero':
      return result === 0;
    case 'null':
      return result === 0n || result === null;
    case 'map_failed':
      return result === mapFailed;
    case 'never':
      return false;
  }
}

/** The capability without which the kernel refuses `call` (capabilities(7)). */
function capabilityFor(call: NativeCall): string {
  if (/^bpf_(xdp|tc)_/.test(call)) return 'CAP_NET_ADMIN';
  if (/^bpf_(object__load|link_|prog_test)/.test(call)) return 'CAP_BPF and CAP_NET_ADMIN';
  if (/_get_(fd_by_id|next_id)$/.test(call)) return 'CAP_SYS_ADMIN';
  if (/^(bpf_enable_stats|setns|mount|fsopen|fsconfig|fsmount)$/.test(call)) return 'CAP_SYS_ADMIN';
  if (call === 'sched_setaffinity') return 'CAP_SYS_NICE';
  if (call === 'ioctl') return 'CAP_NET_ADMIN';
  if (call === 'syscall') return 'CAP_PERFMON';
  if (/^(bpf|libbpf)_/.test(call)) return 'CAP_BPF';
  return 'permission for the file';
}

/** The error for a call that failed with `errno` (positive). `subject` says on what: a path, a device. */
export function nativeError(call: NativeCall, errno: number, subject?: string): VnicError {
  const name = errnoName(errno);
  const text = errnoNames.has(errno) && errno !== 524 ? ` (${getSystemErrorMessage(-errno)})` : '';
  const message = `${call}${subject === undefined ? '' : ` ${subject}`} failed: ${name}${text}.`;
  const details = { errno: name, errnoNumber: errno, call };
  if (name === 'EPERM' || name === 'EACCES') {
    const capability = capabilityFor(call);
    return new VnicError('not_permitted', message, {
      remedy: `Run as root or with ${capability}.`,
      details: { ...details, capability },
    });
  }
  return new VnicError('kernel_refused', message, { details });
}
