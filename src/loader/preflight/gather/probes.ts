// SPDX-License-Identifier: Apache-2.0
/** Asks the kernel what it supports by trying it (libbpf's probes), instead of judging by its version. */
import { BpfMapType, BpfProgType } from '../../../maps/generated/host.ts';
import type { Native } from '../../ffi/index.ts';
import type { KernelFeature } from '../facts.ts';

/** bpf_xdp_get_buff_len in `enum bpf_func_id`: came with multi-buffer XDP in Linux 5.18. */
const FUNC_XDP_GET_BUFF_LEN = 188;

const featureProbes: Readonly<Record<KernelFeature, (native: Native) => number>> = {
  xdp: ({ libbpf }) => libbpf.libbpf_probe_bpf_prog_type(BpfProgType.xdp, null),
  schedCls: ({ libbpf }) => libbpf.libbpf_probe_bpf_prog_type(BpfProgType.schedCls, null),
  progArray: ({ libbpf }) => libbpf.libbpf_probe_bpf_map_type(BpfMapType.progArray, null),
  cpumap: ({ libbpf }) => libbpf.libbpf_probe_bpf_map_type(BpfMapType.cpumap, null),
  lpmTrie: ({ libbpf }) => libbpf.libbpf_probe_bpf_map_type(BpfMapType.lpmTrie, null),
  arrayOfMaps: ({ libbpf }) => libbpf.libbpf_probe_bpf_map_type(BpfMapType.arrayOfMaps, null),
  ringbuf: ({ libbpf }) => libbpf.libbpf_probe_bpf_map_type(BpfMapType.ringbuf, null),
  xdpFrags: ({ libbpf }) => libbpf.libbpf_probe_bpf_helper(BpfProgType.xdp, FUNC_XDP_GET_BUFF_LEN, null),
};

/** The running kernel does not change, so what it said once holds; an answer that was none is asked for again. */
const answers = new Map<KernelFeature, boolean>();

/** Whether bpf(2) works at all here: every kernel with BPF has array maps. */
export function bpfWorks(native: Native): boolean {
  return native.libbpf.libbpf_probe_bpf_map_type(BpfMapType.array, null) === 1;
}

/**
 * libbpf reports a call that was forbidden as "not supported", so a caller has to know that bpf(2) works
 * and that the process has CAP_NET_ADMIN before it believes the answer.
 */
export function hasFeature(native: Native, feature: KernelFeature): boolean | null {
  const known = answers.get(feature);
  if (known !== undefined) return known;
  const result = featureProbes[feature](native);
  if (result < 0) return null;
  answers.set(feature, result === 1);
  return result === 1;
}
