// SPDX-License-Identifier: Apache-2.0
/** tc's clsact hook, for kernels without tcx (before 6.6). Its filters have no owner: they must be taken off by hand. */
import { BpfTcAttachPoint, BpfTcHook, BpfTcOpts } from '../maps/generated/host.ts';
import type { Fd } from './fd.ts';
import type { Native } from './ffi/index.ts';

/** Far from where operators put their own filters ("vn"). */
const HANDLE = 0x766e;
const PRIORITY = 0x766e;
/** enum bpf_tc_flags in bpf/libbpf.h */
const BPF_TC_F_REPLACE = 1;
const EEXIST = -17;
/** What removing a qdisc that is not there gives, by kernel and by what else is on the device (net/sched/sch_api.c). */
const EINVAL = -22;
const ENOENT = -2;

function hookOf(ifindex: number): Uint8Array {
  return BpfTcHook.encode({ ifindex, attachPoint: BpfTcAttachPoint.egress });
}

/** Makes the clsact qdisc; false if it is there already and is shared. */
function ensureClsact(native: Native, ifindex: number): boolean {
  const created = native.libbpf.bpf_tc_hook_create(hookOf(ifindex));
  if (created === EEXIST) return false;
  native.check(created, 'bpf_tc_hook_create', `interface ${ifindex}`);
  return true;
}

/** Adds the program at egress. Returns whether the clsact qdisc had to be made; one that is there is shared. */
export function attachClsactEgress(native: Native, program: Fd, ifindex: number): boolean {
  const made = ensureClsact(native, ifindex);
  const hook = hookOf(ifindex);
  const opts = BpfTcOpts.encode({ progFd: program.value, handle: HANDLE, priority: PRIORITY });
  native.check(native.libbpf.bpf_tc_attach(hook, opts), 'bpf_tc_attach', `interface ${ifindex}`);
  return made;
}

/** Puts another program in place of our filter's, at once (net/sched/cls_bpf.c, list_replace_rcu). */
export function replaceClsactEgress(native: Native, program: Fd, ifindex: number): void {
  const opts = BpfTcOpts.encode({
    progFd: program.value,
    flags: BPF_TC_F_REPLACE,
    handle: HANDLE,
    priority: PRIORITY,
  });
  native.check(native.libbpf.bpf_tc_attach(hookOf(ifindex), opts), 'bpf_tc_attach', `interface ${ifindex}`);
}

/** Id of our filter's program, or null if it is not there. */
export function clsactEgressProgram(native: Native, ifindex: number): number | null {
  const opts = BpfTcOpts.encode({ handle: HANDLE, priority: PRIORITY });
  return native.libbpf.bpf_tc_query(hookOf(ifindex), opts) < 0 ? null : BpfTcOpts.decode(opts).progId;
}

/** Removes our filter if it is there, and the qdisc with `removeQdisc`: only for who made it, it takes all filters along. */
export function detachClsactEgress(native: Native, ifindex: number, removeQdisc: boolean): void {
  if (clsactEgressProgram(native, ifindex) !== null) {
    const opts = BpfTcOpts.encode({ handle: HANDLE, priority: PRIORITY });
    native.check(native.libbpf.bpf_tc_detach(hookOf(ifindex), opts), 'bpf_tc_detach', `interface ${ifindex}`);
  }
  if (!removeQdisc) return;
  const hook = BpfTcHook.encode({ ifindex, attachPoint: BpfTcAttachPoint.ingress | BpfTcAttachPoint.egress });
  const destroyed = native.libbpf.bpf_tc_hook_destroy(hook);
  // Gone already: a detach that was killed had come so far.
  if (destroyed === EINVAL || destroyed === ENOENT) return;
  native.check(destroyed, 'bpf_tc_hook_destroy', `interface ${ifindex}`);
}
