// SPDX-License-Identifier: Apache-2.0
/** bpf_links: an attachment that has an owner. It ends with its last descriptor or pin, so a crash leaves nothing behind. */
import { BpfAttachType, BpfLinkCreateOpts, BpfLinkInfo, XdpFlag } from '../maps/generated/host.ts';
import { Fd } from './fd.ts';
import type { Native } from './ffi/index.ts';
import { objectInfo } from './program.ts';

/** include/uapi/linux/bpf.h since 6.6; newer than the headers of the oldest supported distribution. */
const BPF_TCX_EGRESS = 47;

export type XdpMode = 'native' | 'generic';

/**
 * Attaches an XDP program. Never falls back from native to generic.
 * Throws `kernel_refused` with `details.errno`: EBUSY (something is attached), EOPNOTSUPP (the driver or its settings), EINVAL.
 */
export function attachXdp(native: Native, program: Fd, ifindex: number, mode: XdpMode): Fd {
  const flags = mode === 'native' ? XdpFlag.drvMode : XdpFlag.skbMode;
  const opts = BpfLinkCreateOpts.encode({ flags });
  return createLink(native, program, ifindex, BpfAttachType.xdp, opts, 'XDP');
}

/** Attaches a tc program at the egress hook by tcx (Linux 6.6). Throws `kernel_refused` (EINVAL) on older kernels. */
export function attachTcxEgress(native: Native, program: Fd, ifindex: number): Fd {
  return createLink(native, program, ifindex, BPF_TCX_EGRESS, null, 'tcx egress');
}

/** Where a program of type tracing is attached: a raw tracepoint (tp_btf), or the entry of a kernel function (fentry). */
export interface TracingHook {
  kind: 'tracepoint' | 'function';
  /** As the kernel's BTF names it; that of a tracepoint is without `btf_trace_`. */
  name: string;
}

/**
 * Attaches a program of type tracing to what it was loaded for. It stays as long as the link.
 * Source: kernel/bpf/syscall.c, bpf_raw_tp_link_attach, bpf_tracing_prog_attach
 */
export function attachTracing(native: Native, program: Fd, { kind, name }: TracingHook): Fd {
  const type = kind === 'tracepoint' ? BpfAttachType.traceRawTp : BpfAttachType.traceFentry;
  const fd = native.libbpf.bpf_link_create(program.value, 0, type, null);
  return new Fd(native, native.check(fd, 'bpf_link_create', `${kind} ${name}`));
}

function createLink(
  native: Native,
  program: Fd,
  ifindex: number,
  type: number,
  opts: Uint8Array | null,
  what: string,
): Fd {
  const fd = native.libbpf.bpf_link_create(program.value, ifindex, type, opts);
  return new Fd(native, native.check(fd, 'bpf_link_create', `${what} on interface ${ifindex}`));
}

/**
 * Puts another program in place of a link's, at once: every packet meets the one or the other. A driver may stop its
 * receive queues for an XDP program (virtio_net does: virtnet_xdp_set).
 * Throws `kernel_refused` with `details.errno`: ENOLINK (the device is gone), EINVAL (a program of another kind).
 */
export function updateLink(native: Native, link: Fd, program: Fd): void {
  native.check(native.libbpf.bpf_link_update(link.value, program.value, null), 'bpf_link_update');
}

export interface LinkInfo {
  /** `enum bpf_link_type` */
  type: number;
  id: number;
  programId: number;
  /** 0: the device is gone, and the link with it. */
  ifindex: number;
}

export function linkInfo(native: Native, link: Fd): LinkInfo {
  const info = BpfLinkInfo.decode(objectInfo(native, link));
  return { type: info.type, id: info.id, programId: info.progId, ifindex: info.xdpIfindex };
}
